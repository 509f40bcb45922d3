// The state of a running backward, and where its rows, panels and steps lie in memory.
#pragma once
#include "kernels/cells/backward_scratch.h"
#include "kernels/cells/forward_state.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct BackwardState {
  typedef Lanes<T, paired> L;
  typedef typename L::Piece U;  // never across panels
  typedef Vec<T> V;
  static constexpr CellInfo kCell = Cell::kInfo;
  static constexpr int kLast = kCell.stages - 1, kStrips = strips_of(kCell);

  explicit BackwardState(const BackwardCall<T>& c) : call(c) {}

  const BackwardCall<T>& call;
  const ptrdiff_t units = call.panels.units, columns = call.panels.columns, panels = call.panels.count;
  const ptrdiff_t strip_columns = columns / kStrips, strips = panels * kStrips;
  const ptrdiff_t hidden_size = call.hidden_size, input_size = call.input_size;
  const ptrdiff_t rows = call.last - call.first, all_rows = call.rows.active[0];
  const int64_t tape_from = call.rows.offset[call.tape_begin];
  const CellOptions<T>& options = call.options;
  const ptrdiff_t state_size = optional ? options.state_size : hidden_size;
  const BackwardScratch<T> work = BackwardScratch<T>::plan(kCell, call.panels, options, rows, call.scratch);
  const ColumnPanels hidden = {
      ((optional && options.projected ? state_size : call.panels.padded()) + kLanes<T> - 1) / kLanes<T>, kTileVectors};

  ptrdiff_t step = 0;

  ptrdiff_t batch(ptrdiff_t r) const { return call.rows.batch[call.first + r]; }
  ptrdiff_t active_at(ptrdiff_t s) const {
    const ptrdiff_t n = (s < call.rows.steps ? call.rows.active[s] : 0) - call.first;
    return n < 0 ? 0 : n < rows ? n : rows;
  }
  int vectors(Range range) const { return int(range.count * units / kLanes<T>); }
  ptrdiff_t position(ptrdiff_t s, ptrdiff_t r) const { return call.slot[s] + call.first + r; }
  // Row r of panel p, in its first strip; gate g is column(g, next_strip()) further on.
  T* gates(ptrdiff_t s, ptrdiff_t p, ptrdiff_t r) const {
    return call.gates + (p * kStrips * call.ring_rows + position(s, r)) * strip_columns;
  }
  ptrdiff_t next_strip() const { return call.ring_rows * strip_columns; }
  RECURRA_INLINE ptrdiff_t column(int g, ptrdiff_t to_next_strip) const {
    constexpr int in_strip = kCell.groups / kStrips;
    return g / in_strip * to_next_strip + g % in_strip * units;
  }
  ptrdiff_t tape_row(ptrdiff_t s, ptrdiff_t p, ptrdiff_t r) const {
    return (call.rows.offset[s] - tape_from) * panels + p * call.rows.active[s] + call.first + r;
  }
  ptrdiff_t carried(ptrdiff_t p, ptrdiff_t r) const { return (p * all_rows + call.first + r) * units; }

  // Sets the left side of a product to the gate gradients of step s, held by `ring`, in the columns of `range`.
  void gate_segments(const T* ring, ptrdiff_t s, Range range, const T* weights, ptrdiff_t width) const {
    const ptrdiff_t depth = range.count * units / kStrips;
    for (ptrdiff_t i = 0; i < strips; ++i)
      work.segments[i] = {ring + (i * call.ring_rows + position(s, 0)) * strip_columns + range.begin * units,
                          strip_columns, weights + i * depth * width, depth};
  }

  // Finds the rows of the current step that the equations read, and whether resets cut before and after it.
  void prepare_rows(ptrdiff_t active) const {
    for (ptrdiff_t r = 0; r < active; ++r) {
      const ptrdiff_t row = call.first + r, time = call.direction.time(call.rows, row, step);
      if (call.dy.data) work.dy[r] = call.dy.at(batch(r), time);
      work.x[r] = call.x.at(batch(r), time);
      work.cut_before[r] = call.direction.cut(call.rows, row, step);
      if (work.cut_before[r] || (step == call.tape_begin && !call.h0.data))
        work.h_previous[r] = work.zeros;
      else
        work.h_previous[r] = step > call.tape_begin ? call.h.at(batch(r), call.direction.reverse ? time + 1 : time - 1)
                                                    : call.h0.at(batch(r));
      work.cut[r] = call.rows.reset && step + 1 < call.rows.length[row] && call.direction.cut(call.rows, row, step + 1);
    }
  }

  // c of the previous step, from unit p * units + w on.
  V previous_c(ptrdiff_t p, ptrdiff_t w, ptrdiff_t r, bool pair) const {
    if (work.cut_before[r] || (step == call.tape_begin && !call.c0.data)) return V{};
    if (step > call.tape_begin)
      return L::get(call.cells + tape_row(step - 1, p, r) * units + w, pair * call.rows.active[step - 1] * units);
    const ptrdiff_t u = p * units + w, left = hidden_size - u;
    return L::get(call.c0.at(batch(r)) + u, pair * units, left, left - pair * units);
  }

  // The same, of units of one panel.
  U previous_c(ptrdiff_t p, ptrdiff_t w, ptrdiff_t r) const {
    if (work.cut_before[r] || (step == call.tape_begin && !call.c0.data)) return U{};
    if (step > call.tape_begin) return load<U>(call.cells + tape_row(step - 1, p, r) * units + w);
    return load<U>(call.c0.at(batch(r)) + p * units + w, hidden_size - p * units - w);
  }

  // The sums of the unit vectors' gradient of row r, whose group its first row begins.
  T* unit_sums(ptrdiff_t p, ptrdiff_t r) const {
    const ptrdiff_t row = call.unit_slot[step] + (call.first + r) / options.group;
    return call.unit_sums + (p * call.unit_rows + row) * options.vectors.gradient_size(call.panels);
  }
  bool begins_group(ptrdiff_t r) const { return (call.first + r) % options.group == 0; }
  void add_sum(T* to, ptrdiff_t r, U v) const { store(to, begins_group(r) ? v : load<U>(to) + v); }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
