// Products of a backward: gate gradients times transposed weights, towards h and towards the inputs.
#pragma once
#include "kernels/cells/backward_state.h"
#include "kernels/cells/option_rows.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct BackwardProduct : BackwardState<Cell, T, paired, optional> {
  typedef BackwardState<Cell, T, paired, optional> Base;
  typedef typename Base::U U;
  using Base::Base, Base::kCell, Base::kStrips;
  using Base::call, Base::units, Base::panels, Base::hidden_size, Base::input_size, Base::rows, Base::options;
  using Base::position, Base::tape_row, Base::carried, Base::gate_segments, Base::strips;
  using Base::state_size, Base::work, Base::hidden, Base::step, Base::batch, Base::active_at, Base::vectors;

  // Prefetches what the epilogue of a tile reads; the product hides the latency.
  void prefetch_tape(ptrdiff_t u0, ptrdiff_t tile_units, ptrdiff_t r0, int m) const {
    const ptrdiff_t end = u0 + tile_units < call.panels.padded() ? u0 + tile_units : call.panels.padded();
    for (ptrdiff_t u = u0; u < end; u += units) {
      const ptrdiff_t on_tape = tape_row(step, u / units, r0) * units;
      prefetch(call.saved + on_tape * kCell.saved, m * kCell.saved * units);
      if (kCell.has_cell && step > call.tape_begin)
        prefetch(call.cells + tape_row(step - 1, u / units, r0) * units, m * units);
    }
    const ptrdiff_t n = hidden_size - u0 < tile_units ? hidden_size - u0 : tile_units;
    for (ptrdiff_t r = r0; r < r0 + m; ++r) {
      if (call.dy.data) prefetch(work.dy[r] + u0, n);
      prefetch(work.h_previous[r] + u0, n);
    }
  }

  // The gate gradients of step s, in the columns of stage `stage`, times its transposed weights: calls done(first unit,
  // units, first row, rows, tile, false) for all tiles of the first `active` rows.
  template <class Done>
  void gate_product(ptrdiff_t s, int stage, ptrdiff_t active, const Done& done) const {
    constexpr ptrdiff_t lanes = kLanes<T>;
    alignas(64) T out[kMaxRows * kTileVectors * lanes];
    const ptrdiff_t depth = panels * kCell.recurrent[stage].count * units;
    const bool far = call.caches.far(bytes_of<T>(depth * hidden.vectors * lanes));
    for (ptrdiff_t j = 0; j < hidden.count(); ++j) {
      const ptrdiff_t from = hidden.begin(j) * lanes, width = hidden.begin(j + 1) * lanes - from;
      const int nv = int(width / lanes);
      gate_segments(call.gates, s, kCell.recurrent[stage], call.hidden_weights[stage] + from * depth, width);
      Tile<T> tile = {work.segments, strips, bytes_of<T>(width), nullptr, 0, out, width};
      const Split tiles = split(active, max_rows(nv));
      for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
        tile.next = far && i == 0 ? call.hidden_weights[stage] + (from + width) * depth : nullptr;
        if (stage == 0 && step >= call.begin) prefetch_tape(from, width, tiles.begin(i), tiles.size(i));
        multiply(tile, tiles.begin(i), tiles.size(i), nv);
        done(from, width, tiles.begin(i), tiles.size(i), out, false);
      }
    }
  }

  // The gradient of the rows' state after step s. For the first `running` rows it comes from the next step; for those
  // from there to `active` it is the caller's, and done() is called with true.
  template <class Done>
  void state_gradient(ptrdiff_t s, ptrdiff_t running, ptrdiff_t active, const Done& done) const {
    constexpr ptrdiff_t lanes = kLanes<T>;
    if (running) gate_product(s + 1, 0, running, done);
    alignas(64) T out[kTileVectors * lanes];
    for (ptrdiff_t j = 0; j < hidden.count(); ++j) {
      const ptrdiff_t from = hidden.begin(j) * lanes, width = hidden.begin(j + 1) * lanes - from;
      for (ptrdiff_t r = running; r < active; ++r) {
        for (ptrdiff_t u = 0; u < width; u += lanes)
          store(out + u,
                call.dhn.data ? load<Vec<T>>(call.dhn.at(batch(r)) + from + u, state_size - from - u) : Vec<T>{});
        done(from, width, r, 1, out, true);
      }
    }
  }

  // Packs the operands of the weights' gradient: x, h as the product saw it, and the second stage's or the
  // projection's.
  void pack_operands(ptrdiff_t active) const {
    const auto pack = [&](int part, const auto& from, ptrdiff_t k, bool ones, int width) {
      const ptrdiff_t to = position(step, 0);
      if (call.outer) return pack_outer(call.operands[part], call.ring_rows, to, active, from, k);
      pack_operand(call.operands[part], call.ring_rows, to, active, from, k, ones, width);
    };
    pack(0, RowsByAddress<T>{work.x}, input_size, true, vectors(kCell.input) / kStrips);
    if constexpr (optional)
      for (ptrdiff_t r = 0; work.masked && r < active; ++r) {
        multiply_row_by(work.h_previous[r], options.recurrent_mask + batch(r) * options.mask_row,
                        work.masked + r * work.stride, state_size);
        work.h_previous[r] = work.masked + r * work.stride;
      }
    pack(1, RowsByAddress<T>{work.h_previous}, state_size, needs_hidden_ones(kCell),
         vectors(kCell.recurrent[0]) / kStrips);
    [[maybe_unused]] const RowsApart<T> operand = {work.operand, work.stride};
    if constexpr (optional && kCell.has_cell)
      if (options.projected) pack(2, operand, hidden_size, false, kProjectionVectors);
    if constexpr (kCell.stages > 1) pack(2, operand, hidden_size, false, vectors(kCell.recurrent[1]));
  }

  // dx of the whole block.
  void input_gradient() const {
    constexpr ptrdiff_t lanes = kLanes<T>;
    alignas(64) T out[kMaxRows * kTileVectors * lanes];
    const ColumnPanels inputs = {(input_size + lanes - 1) / lanes, kTileVectors};
    const ptrdiff_t depth = panels * kCell.input.count * units;
    for (ptrdiff_t j = 0; j < inputs.count(); ++j) {
      const ptrdiff_t from = inputs.begin(j) * lanes, width = inputs.begin(j + 1) * lanes - from;
      const ptrdiff_t n = input_size - from < width ? input_size - from : width;
      const int nv = int(width / lanes);
      const Tile<T> tile = {work.segments, strips, bytes_of<T>(width), nullptr, 0, out, width};
      for (ptrdiff_t s = call.end - 1; s >= call.begin; --s) {
        const ptrdiff_t active = active_at(s);
        if (!active) continue;
        gate_segments(optional && options.normalised() ? call.input_gates : call.gates, s, kCell.input,
                      call.input_weights + from * depth, width);
        const Split tiles = split(active, max_rows(nv));
        for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
          multiply(tile, tiles.begin(i), tiles.size(i), nv);
          for (ptrdiff_t r = tiles.begin(i); r < tiles.begin(i + 1); ++r) {
            const T* row = out + (r - tiles.begin(i)) * width;
            T* to = call.dx.at(batch(r), call.direction.time(call.rows, call.first + r, s)) + from;
            for (ptrdiff_t k = 0; k < n; k += lanes) {
              Vec<T> v = load<Vec<T>>(row + k);
              if (call.add_dx) v = load<Vec<T>>(to + k, n - k) + v;
              store(to + k, v, n - k);
            }
          }
        }
      }
    }
  }

  // The gradient of h from unit u on, from later steps: `product`, which came through the recurrent product, and what
  // bypassed it. Of a fresh row, `product` is the caller's gradient of the final state.
  RECURRA_INLINE U of_state(const T* product, ptrdiff_t r, ptrdiff_t u, bool fresh) const {
    U d = load<U>(product);
    if (fresh) return d;
    if (work.cut[r]) return U{};
    if constexpr (optional) {
      if (options.recurrent_mask) d = d * load<U>(options.recurrent_mask + batch(r) * options.mask_row + u);
      if (options.zone_h.rate > 0) d = d + load<U>(call.zone_carry + (call.first + r) * call.projected_row + u);
    }
    if constexpr (Cell::kCarries) d = d + load<U>(call.carry + carried(u / units, r) + u % units);
    return d;
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
