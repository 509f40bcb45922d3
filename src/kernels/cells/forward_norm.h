// The step of a cell with layer norm: a few rows at a time, since the equations need a row's whole product.
#pragma once
#include "kernels/cells/forward_epilogue.h"
#include "kernels/cells/norm.h"
#include "kernels/cells/poll.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct ForwardNorm : ForwardEpilogue<Cell, T, paired, optional> {
  typedef ForwardEpilogue<Cell, T, paired, optional> Base;
  typedef typename Base::L L;
  using Base::Base, Base::kCell, Base::kStrips;
  using Base::call, Base::units, Base::columns, Base::panels, Base::hidden_size, Base::input_size, Base::options;
  using Base::state_size, Base::work, Base::tape_from, Base::step, Base::active, Base::vectors;
  using Base::weights, Base::recurrent_operand, Base::multiply_rows;

  // False: the call was stopped.
  bool run_normalised(Poll& poll, const T* x) const {
    constexpr Range input = kCell.input, recurrent = kCell.recurrent[0];
    const ptrdiff_t width = panels * columns;
    const int widest = vectors(input.count > recurrent.count ? input : recurrent);
    const Split tiles = split(active, max_rows(widest));
    for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
      const ptrdiff_t r0 = tiles.begin(i);
      const int m = tiles.size(i);
      const Split groups = split(panels, m > 1 ? 1 : max_panels(widest));
      for (ptrdiff_t g = 0; g < groups.tiles; ++g) {
        const ptrdiff_t p = groups.begin(g);
        const char* panel = weights.panel(p);
        const PackedLayout& layout = weights.layout;
        const Segment<T> from_x = {x, work.input_stride, panel + layout.offset[0], input_size},
                         from_h = {recurrent_operand(), work.hidden_stride, panel + layout.offset[1], state_size};
        Scales<T> scales;
        Tile<T> tile = {&from_x, 1, layout.row[0], nullptr, 0, work.tile + p * columns + input.begin * units, width};
        tile.scales = weights.scales_of(0, p * kStrips, input.begin * units, scales);
        multiply_rows(tile, r0, m, groups.size(g), vectors(input));
        tile.segments = &from_h;
        tile.scales = weights.scales_of(1, p * kStrips, recurrent.begin * units, scales);
        tile.b_row = layout.row[1];
        tile.out = work.hidden + p * columns + recurrent.begin * units;
        multiply_rows(tile, r0, m, groups.size(g), vectors(recurrent));
      }
      for (ptrdiff_t r = r0; r < r0 + m; ++r)
        normalise_gates(r, work.tile + (r - r0) * width, work.hidden + (r - r0) * width);
      if (m > 1)
        for (ptrdiff_t p = 0; p < panels; ++p)
          this->template epilogue<0>(p, r0, m, false, work.tile + p * columns, width);
      else
        this->template epilogue<0>(0, r0, panels, true, work.tile, columns);
      if constexpr (kCell.has_cell)
        for (ptrdiff_t r = r0; r < r0 + m; ++r) normalise_cell(r, work.candidate + (r - r0) * panels * units);
      if (poll.stopped(m * width * (hidden_size + input_size))) return false;
    }
    return true;
  }

  // pre = gain_x norm(from_x) + gain_h norm(from_h) + bias, into from_x.
  void normalise_gates(ptrdiff_t r, T* from_x, T* from_h) const {
    typedef typename L::Piece U;
    const ptrdiff_t width = panels * columns, vectors_size = options.vectors.size(call.panels);
    const Moments<T> of_x =
        moments<U>(static_cast<const T*>(from_x), {panels, units, columns, hidden_size, kCell.input});
    const Moments<T> of_h =
        moments<U>(static_cast<const T*>(from_h), {panels, units, columns, hidden_size, kCell.recurrent[0]});
    const ptrdiff_t at_row = call.rows.offset[step] - tape_from + call.first + r;
    T* kept = call.norms ? call.norms + at_row * norm_row(call.panels) : nullptr;
    if (kept) kept[2 * width] = of_x.scale, kept[2 * width + 1] = of_h.scale;
    for (ptrdiff_t p = 0; p < panels; ++p) {
      const T* gains = options.unit_weights + p * vectors_size + options.vectors.column(call.panels, 0);
      const T* bias = weights.biases + p * columns;
      for (int g = 0; g < kCell.groups; ++g)
        for (ptrdiff_t w = 0; w < units; w += lanes<U>()) {
          const ptrdiff_t k = g * units + w, at = p * columns + k, n = hidden_size - p * units - w;
          U pre = load<U>(bias + k);
          if (has(kCell.input, g)) {
            const U norm = normalised<U>(from_x + at, of_x, n);
            pre = fma(load<U>(gains + k), norm, pre);
            if (kept) store(kept + at, norm);
          }
          if (has(kCell.recurrent[0], g)) {
            const U norm = normalised<U>(from_h + at, of_h, n);
            pre = fma(load<U>(gains + columns + k), norm, pre);
            if (kept) store(kept + width + at, norm);
          }
          store(from_x + at, pre);
        }
    }
  }

  // h = o tanh(gain norm(c) + bias); the equations have left o in the place of h.
  void normalise_cell(ptrdiff_t r, T* cell) const {
    typedef typename L::Piece U;
    normalise<U>(cell, {panels, units, units, hidden_size, {0, 1}});
    const ptrdiff_t vectors_size = options.vectors.size(call.panels);
    for (ptrdiff_t p = 0; p < panels; ++p) {
      const T* gain = options.unit_weights + p * vectors_size + options.vectors.cell_norm(call.panels);
      for (ptrdiff_t w = 0; w < units; w += lanes<U>()) {
        T* h = work.made + r * work.hidden_stride + p * units + w;
        store(h, load<U>(h) *
                     activate<Tanh>(options.activations.output,
                                    fma(load<U>(gain + w), load<U>(cell + p * units + w), load<U>(gain + units + w))));
      }
    }
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
