// The cell's derivative on tiles of gradients of h.
#pragma once
#include "kernels/cells/backward_product.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct BackwardEpilogue : BackwardProduct<Cell, T, paired, optional> {
  typedef BackwardProduct<Cell, T, paired, optional> Base;
  typedef typename Base::L L;
  typedef typename Base::V V;
  typedef typename GradientOf<V, optional>::type StepGradient;
  using Base::Base, Base::kCell, Base::kLast;
  using Base::begins_group;
  using Base::call, Base::units, Base::columns, Base::strip_columns, Base::column, Base::hidden_size, Base::all_rows,
      Base::options, Base::work;
  using Base::step, Base::batch, Base::gates, Base::tape_row, Base::carried, Base::previous_c, Base::unit_sums;

  // The current row of a tile, from unit `u` on: its values, and the distances to those of the next panel, which a
  // paired vector covers too. Fresh rows end at this step: the caller's gradient of the final state reaches them.
  struct Item {
    ptrdiff_t p, w, u, left, r;
    bool fresh, cut;
    const T *tile, *saved, *c;
    T *carry, *dc, *out;
    ptrdiff_t u_next, carry_next, left_next, tape_next, gates_next, strip_next;
  };

  // Rows [r0, r0 + m), units [u0, u0 + tile_units) of the gradient of h.
  template <int stage>
  void epilogue(ptrdiff_t u0, ptrdiff_t tile_units, ptrdiff_t r0, ptrdiff_t m, const T* tile, ptrdiff_t tile_row,
                bool fresh) const {
    const ptrdiff_t end = u0 + tile_units < call.panels.padded() ? u0 + tile_units : call.panels.padded();
    for (ptrdiff_t u = u0; u < end; u += kLanes<T>) {
      Item at = first_item(u, r0, paired && u + units < end, fresh);
      at.tile = tile + (u - u0);
      for (; at.r < r0 + m; next_item(at, tile_row)) {
        at.cut = stage == kLast && !fresh && work.cut[at.r];
        StepGradient d;
        read<stage>(d, at);
        Cell::template backward<stage>(d);
        write<stage>(d, at);
      }
    }
  }

 private:
  RECURRA_INLINE Item first_item(ptrdiff_t u, ptrdiff_t r0, bool pair, bool fresh) const {
    Item at = {};
    at.p = u / units;
    at.w = u % units;
    at.u = u;
    at.left = hidden_size - u;
    at.r = r0;
    at.fresh = fresh;
    const ptrdiff_t on_tape = tape_row(step, at.p, r0) * units;
    at.saved = call.saved + on_tape * kCell.saved + at.w;
    at.c = kCell.has_cell ? call.cells + on_tape + at.w : nullptr;
    at.carry = call.carry + carried(at.p, r0) + at.w;
    at.dc = call.dc + carried(at.p, r0) + at.w;
    at.out = gates(step, at.p, r0) + at.w;
    at.u_next = pair * units;
    at.carry_next = pair * all_rows * units;
    at.left_next = at.left - at.u_next;
    at.tape_next = pair * call.rows.active[step] * units;
    at.gates_next = pair * call.ring_rows * columns;
    at.strip_next = this->next_strip();
    return at;
  }
  RECURRA_INLINE void next_item(Item& at, ptrdiff_t tile_row) const {
    ++at.r;
    at.tile += tile_row;
    at.saved += kCell.saved * units;
    if (kCell.has_cell) at.c += units;
    at.carry += units;
    at.dc += units;
    at.out += strip_columns;
  }

  template <int stage>
  RECURRA_INLINE void read(StepGradient& d, const Item& at) const {
    constexpr bool last = stage == kLast;
    d.dh = L::get(at.tile, at.u_next);
    d.dc = d.carry = V{};
    if constexpr (optional) d.activations = &options.activations;
    if constexpr (optional && !last) {
      if (options.recurrent_mask) d.dh = d.dh * load<V>(options.recurrent_mask + batch(at.r) * options.mask_row + at.u);
      d.carry = L::get(at.carry, at.carry_next);
    } else if constexpr (optional) {
      if constexpr (kCell.has_cell) set_options(d, at);
    } else if constexpr (last) {
      if (at.cut) d.dh = V{};
      if (call.dy.data) d.dh = d.dh + L::get(work.dy[at.r] + at.u, at.u_next, at.left, at.left_next);
      if constexpr (Cell::kCarries)
        if (!at.fresh && !at.cut) d.dh = d.dh + L::get(at.carry, at.carry_next);
    } else {
      d.carry = L::get(at.carry, at.carry_next);
    }
    if constexpr (kCell.has_cell) {
      if (at.fresh)
        d.dc = call.dcn.data ? L::get(call.dcn.at(batch(at.r)) + at.u, at.u_next, at.left, at.left_next) : V{};
      else if (!at.cut)
        d.dc = L::get(at.dc, at.carry_next);
      d.c = L::get(at.c, at.tape_next);
      d.c_previous = previous_c(at.p, at.w, at.r, at.u_next != 0);
    }
    if constexpr (Cell::kUsesPrevious)
      d.h_previous = L::get(work.h_previous[at.r] + at.u, at.u_next, at.left, at.left_next);
    for (int k = 0; k < kCell.saved; ++k) d.saved[k] = L::get(at.saved + k * units, at.tape_next * kCell.saved);
    if constexpr (kCell.stages > 1)
      for (int g = 0; g < kCell.groups; ++g)
        d.pre[g] = last ? V{} : L::get(at.out + column(g, at.strip_next), at.gates_next);
  }

  template <int stage>
  RECURRA_INLINE void write(StepGradient& d, const Item& at) const {
    for (int g = 0; g < kCell.groups; ++g) L::put(at.out + column(g, at.strip_next), at.gates_next, d.pre[g]);
    if constexpr (optional && kCell.has_cell) keep_options(d, at);
    if constexpr (Cell::kCarries) L::put(at.carry, at.carry_next, d.carry);
    if constexpr (kCell.has_cell) L::put(at.dc, at.carry_next, d.dc);
    if constexpr (stage != kLast) {
      if constexpr (optional)
        if (options.recurrent_mask)
          d.operand = d.operand * load<V>(options.recurrent_mask + batch(at.r) * options.mask_row + at.u);
      store(work.operand + at.r * work.stride + at.u, d.operand);
    }
  }

  // The options that c's equations take.
  RECURRA_INLINE void set_options(StepGradient& d, const Item& at) const {
    const ptrdiff_t size = options.vectors.size(call.panels), pair = at.u_next != 0;
    for (int i = 0; i < 3; ++i)
      d.peephole[i] =
          options.vectors.peepholes ? L::get(options.unit_weights + at.p * size + i * units + at.w, pair * size) : V{};
    d.limit = broadcast<V>(options.clip);
    d.zone = options.zone_c.random ? L::get(work.zone + at.r * call.panels.padded() + at.u, at.u_next)
                                   : broadcast<V>(options.zone_c.rate);
    d.normalised = options.normalised();
    if (d.normalised) d.of_norm = L::get(work.of_norm + at.r * work.stride + at.u, at.u_next);
  }
  // The gradients of the peepholes, and the operand of the projection's gradient.
  RECURRA_INLINE void keep_options(const StepGradient& d, const Item& at) const {
    const ptrdiff_t size = options.vectors.gradient_size(call.panels), pair = at.u_next != 0;
    for (int i = 0; options.vectors.peepholes && i < 3; ++i) {
      T* to = unit_sums(at.p, at.r) + i * units + at.w;
      const ptrdiff_t next = pair * call.unit_rows * size;
      L::put(to, next, begins_group(at.r) ? d.of_peephole[i] : L::get(to, next) + d.of_peephole[i]);
    }
    if (options.projected && !d.normalised) L::put(work.operand + at.r * work.stride + at.u, at.u_next, d.projected);
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
