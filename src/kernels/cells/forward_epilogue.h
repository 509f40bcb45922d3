// The cell's equations on a tile of pre-activations while it is in the first-level cache.
#pragma once
#include "kernels/cells/forward_product.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct ForwardEpilogue : ForwardProduct<Cell, T, paired, optional> {
  typedef ForwardProduct<Cell, T, paired, optional> Base;
  typedef typename Base::L L;
  typedef typename Base::V V;
  typedef typename Base::StepUnit StepUnit;
  using Base::Base, Base::kCell;
  using Base::call, Base::units, Base::panels, Base::hidden_size, Base::rows, Base::options, Base::work;
  using Base::operand, Base::step, Base::h_in, Base::h_out, Base::cells, Base::batch, Base::saved, Base::tape_c;

  // The items of a tile: rows of one panel, or (along_panels) panels of one row. Where the current item, which with
  // `pair` is processed together with the next one, has its values, and the distances from an item to the next.
  struct Items {
    ptrdiff_t panel, row, index;
    bool along_panels, pair;
    const T* tile;
    T *c, *tape, *c_tape, *y;
    ptrdiff_t h, left, left_next;  // left: units from here to the end of h
    ptrdiff_t tile_next, h_next, c_next, tape_next, y_next;
  };

  // `tile_next`: from an item's pre-activations to the next one's.
  template <int stage>
  void epilogue(ptrdiff_t p, ptrdiff_t r0, ptrdiff_t count, bool along_panels, const T* tile,
                ptrdiff_t tile_next) const {
    Items at = first_item<stage>(p, r0, along_panels, tile, tile_next);
    for (; at.index < count; next_item(at)) {
      at.pair = at.index + 1 < count;
      at.y = call.y.data ? work.y[at.row] + at.panel * units : nullptr;
      at.y_next = !at.pair || !at.y ? 0 : along_panels ? units : work.y[at.row + 1] - work.y[at.row];
      at.left_next = at.pair && along_panels ? at.left - units : at.left;
      for (ptrdiff_t w = 0; w < units; w += kLanes<T>) {
        StepUnit u;
        read<stage>(u, at, w);
        Cell::template forward<stage>(u);
        write<stage>(u, at, w);
      }
    }
  }

 private:
  template <int stage>
  RECURRA_INLINE Items first_item(ptrdiff_t p, ptrdiff_t r0, bool along_panels, const T* tile,
                                  ptrdiff_t tile_next) const {
    Items at = {};
    at.panel = p;
    at.row = r0;
    at.along_panels = along_panels;
    at.tile = tile;
    at.tile_next = tile_next;
    at.h = r0 * work.hidden_stride + p * units;
    at.left = hidden_size - p * units;
    at.h_next = along_panels ? units : work.hidden_stride;
    at.c_next = along_panels ? rows * units : units;
    at.tape_next = !along_panels ? units : (call.saved ? call.rows.active[step] : rows) * units;
    at.c = kCell.has_cell ? cells + (p * rows + r0) * units : nullptr;
    at.tape = kCell.stages > 1 || call.saved ? saved(p, r0) : nullptr;
    at.c_tape = kCell.has_cell && call.saved ? tape_c(p, r0) : nullptr;
    return at;
  }
  RECURRA_INLINE void next_item(Items& at) const {
    at.index += L::kItems;
    (at.along_panels ? at.panel : at.row) += L::kItems;
    at.tile += L::kItems * at.tile_next;
    at.h += L::kItems * at.h_next;
    if (at.along_panels) at.left -= L::kItems * units;
    if (kCell.has_cell) at.c += L::kItems * at.c_next;
    if (at.tape) at.tape += L::kItems * at.tape_next * kCell.saved;
    if (at.c_tape) at.c_tape += L::kItems * at.tape_next;
  }

  template <int stage>
  RECURRA_INLINE void read(StepUnit& u, const Items& at, ptrdiff_t w) const {
    for (int g = 0; g < kCell.groups; ++g) u.pre[g] = L::get(at.tile + g * units + w, at.pair * at.tile_next);
    if constexpr (optional) u.activations = &options.activations;
    if constexpr (optional && kCell.has_cell) set_options(u, at, w);
    if constexpr (Cell::kUsesPrevious) u.h = L::get(h_in + at.h + w, at.pair * at.h_next);
    if constexpr (kCell.has_cell) u.c = L::get(at.c + w, at.pair * at.c_next);
    if constexpr (stage > 0)
      for (int k = 0; k < kCell.saved; ++k)
        u.saved[k] = L::get(at.tape + k * units + w, at.pair * at.tape_next * kCell.saved);
  }

  template <int stage>
  RECURRA_INLINE void write(StepUnit& u, const Items& at, ptrdiff_t w) const {
    constexpr bool last = stage + 1 == kCell.stages;
    if constexpr (last && optional) {
      L::put(work.made + at.h + w, at.pair * at.h_next, u.h);
      if constexpr (kCell.has_cell)
        if (work.candidate)
          L::put(work.candidate + (at.along_panels ? at.panel : at.index * panels + at.panel) * units + w,
                 at.pair * (at.along_panels ? units : panels * units), u.candidate);
    } else if constexpr (last) {
      L::put(h_out + at.h + w, at.pair * at.h_next, u.h);
      if (at.y) L::put(at.y + w, at.y_next, u.h, at.left - w, at.left_next - w);
    } else {
      if constexpr (optional)
        if (options.recurrent_mask)
          u.operand =
              u.operand * load<V>(options.recurrent_mask + batch(at.row) * options.mask_row + at.panel * units + w);
      L::put(operand + at.h + w, at.pair * at.h_next, u.operand);
    }
    if constexpr (kCell.has_cell) L::put(at.c + w, at.pair * at.c_next, u.c);
    if (!at.tape) return;
    for (int k = 0; k < kCell.saved; ++k)
      L::put(at.tape + k * units + w, at.pair * at.tape_next * kCell.saved, u.saved[k]);
    if constexpr (kCell.has_cell) L::put(at.c_tape + w, at.pair * at.tape_next, u.c);
  }

  // The options that c's equations take.
  RECURRA_INLINE void set_options(StepUnit& u, const Items& at, ptrdiff_t w) const {
    const ptrdiff_t size = options.vectors.size(call.panels), padded = call.panels.padded();
    const ptrdiff_t panel_next = at.along_panels && at.pair, row_next = !at.along_panels && at.pair;
    for (int i = 0; i < 3; ++i)
      u.peephole[i] = options.vectors.peepholes
                          ? L::get(options.unit_weights + at.panel * size + i * units + w, panel_next * size)
                          : V{};
    u.limit = broadcast<V>(options.clip);
    u.zone = options.zone_c.random
                 ? L::get(work.zone + at.row * padded + at.panel * units + w, panel_next * units + row_next * padded)
                 : broadcast<V>(options.zone_c.rate);
    u.normalised = options.normalised();
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
