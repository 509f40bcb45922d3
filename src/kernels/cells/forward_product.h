// The product of a tile: the pre-activations of a few rows of a panel, or of one row of several panels.
#pragma once
#include "kernels/cells/forward_state.h"
#include "kernels/gemm/tile.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct ForwardProduct : ForwardState<Cell, T, paired, optional> {
  typedef ForwardState<Cell, T, paired, optional> Base;
  using Base::Base, Base::kCell, Base::kMerged, Base::kStrips;
  using Base::call, Base::units, Base::columns, Base::strip_columns, Base::panels, Base::input_size, Base::state_size,
      Base::work;
  using Base::weights, Base::operand, Base::step, Base::next, Base::far, Base::to_next_panel, Base::vectors,
      Base::saved, Base::tape_c, Base::recurrent_operand;

  // Rows [r0, r0 + m) of one panel, or row r0 of `group` panels.
  void multiply_rows(Tile<T>& tile, ptrdiff_t r0, int m, int group, int width) const {
    const Tiles<T>& tiles = weights.storage->tiles;
    tile.b_strip = m > 1 && kStrips == 1 ? 0 : weights.layout.strip;
    if (far && r0 == 0) tile.next = static_cast<const char*>(tile.segments->b) + to_next_panel;
    tile.out_strip = strip_columns;
    if (m > 1) return multiply(tiles, tile, r0, m, width);
    multiply_row(tiles, tile, r0, group, width);
  }

  // Row r of one panel, with pieces of the next block's input product beside it as long as there are any.
  void multiply_beside_next(const Tile<T>& panel, ptrdiff_t r, int width) {
    for (int s = 0; s < kStrips; ++s) {
      Segment<T> segment = *panel.segments;
      segment.b = static_cast<const char*>(segment.b) + s * weights.layout.strip;
      Scales<T> scales;
      Tile<T> strip = panel;
      strip.segments = &segment;
      strip.init += s * strip_columns;
      strip.out += s * strip_columns;
      if (panel.scales) {
        scales = *panel.scales;
        scales.first += s * scales.strip;
        strip.scales = &scales;
      }
      if (next.pending(segment.k))
        next.make_beside(strip, r);
      else
        multiply_row(weights.storage->tiles, strip, r, 1, width / kStrips);
    }
  }

  // The pre-activations of rows [r0, r0 + m) of panel p, or of row r0 of panels [p, p + group). `ahead`: the input's
  // product of the step, [row][panel][columns], or null.
  template <int stage>
  void multiply_tile_of(ptrdiff_t p, int group, ptrdiff_t r0, int m, const T* x, ptrdiff_t x_stride, const T* ahead,
                        T* out) {
    constexpr Range range = kCell.recurrent[stage];
    const char* panel = weights.panel(p);
    const T* biases = weights.biases + p * columns;
    const PackedLayout& layout = weights.layout;
    const T* from_h = stage ? operand : recurrent_operand();
    const ptrdiff_t depth = step == 0 && !call.h0.data ? 0 : state_size;  // a state of zeros adds nothing
    const Segment<T> segments[2] = {{x, x_stride, panel + layout.offset[0], input_size},
                                    {from_h, work.hidden_stride, panel + layout.offset[1 + stage], depth}};
    const ptrdiff_t from = range.begin * units;
    Scales<T> scales;
    Tile<T> tile = {segments + 1, 1, layout.row[1 + stage], nullptr, columns, out + from, columns};
    if constexpr (stage > 0) {
      tile.init = saved(p, r0) + Cell::kPending * units;
      tile.init_row = kCell.saved * units;
      tile.init_strip = saved(p + 1, r0) - saved(p, r0);
    } else {
      const T* init = ahead ? ahead + (r0 * panels + p) * columns : biases;
      const ptrdiff_t init_row = ahead ? panels * columns : 0;
      if constexpr (kMerged) {
        tile.init = init + from;
        tile.init_row = init_row;
        tile.init_strip = strip_columns;
        if (!ahead) tile.segments = segments, tile.segment_count = 2;
      } else {
        const ptrdiff_t input_from = kCell.input.begin * units, end = input_from + layout.width[0];
        // Rows of one panel or panels of one row: `out` has the same distance between either.
        for (int i = 0; i < (m > 1 ? m : group); ++i) {
          T* row = out + i * columns;
          if (ahead) copy_row(row + input_from, init + i * (m > 1 ? init_row : columns) + input_from, layout.width[0]);
          // Columns that the input does not feed start from the bias.
          copy_row(row + end, biases + (m > 1 ? 0 : i * columns) + end, columns - end);
        }
        if (!ahead) {
          Tile<T> input = {segments, 1, layout.row[0], init + input_from, 0, out + input_from, columns};
          input.init_strip = columns;
          input.scales = weights.scales_of(0, p * kStrips, input_from, scales);
          multiply_rows(input, r0, m, group, vectors(kCell.input));
        }
        tile.init = out + from;
        tile.init_row = tile.init_strip = columns;
      }
    }
    tile.scales = weights.scales_of(tile.segments == segments ? 0 : 1 + stage, p * kStrips, from, scales);
    if constexpr (kCell.stages == 1)
      if (m == 1 && group == 1 && next.pending(depth)) return multiply_beside_next(tile, r0, vectors(range));
    multiply_rows(tile, r0, m, group, vectors(range));
  }

  // Prefetches the epilogue's outputs; the product hides the latency. Only those of a recorded call: without a tape
  // they are fewer than the store queue holds.
  void prefetch_outputs(ptrdiff_t p, ptrdiff_t r0, int m) const {
    if (!call.saved) return;
    prefetch(saved(p, r0), m * kCell.saved * units);
    if constexpr (kCell.has_cell) prefetch(tape_c(p, r0), m * units);
    if (call.y.data)
      for (ptrdiff_t r = r0; r < r0 + m; ++r) prefetch(work.y[r] + p * units, units);
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
