// The backward loop of cells that are called by their addresses: the recurrence in reverse; the weights' gradient
// follows block by block as for every cell.
#pragma once
#include "kernels/cells/backward_scratch.h"
#include "kernels/cells/poll.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class T>
struct ScanBackwardScratch {
  ScanGradientRow<T>* rows;  // [row]
  Segment<T>* segments;      // [strip]
  T* dh;                     // [padded]
  const T** h;               // [row], the state that entered the step
  T *zeros, *product;        // [padded], [row][stride]: if a product reads h
  ptrdiff_t stride, size;

  static ScanBackwardScratch plan(const CellInfo& cell, const Panels& panels, ptrdiff_t rows, T* base) {
    ScanBackwardScratch s = {};
    const auto take = [&](ptrdiff_t bytes) {
      T* const p = base ? base + s.size : nullptr;
      s.size += (bytes + 63) / 64 * 64 / ptrdiff_t(sizeof(T));
      return static_cast<void*>(p);
    };
    s.stride = work_stride<T>(panels.padded());
    s.rows = static_cast<ScanGradientRow<T>*>(take(rows * ptrdiff_t(sizeof(ScanGradientRow<T>))));
    s.segments = static_cast<Segment<T>*>(take(panels.count * panels.strips * ptrdiff_t(sizeof(Segment<T>))));
    s.dh = static_cast<T*>(take(bytes_of<T>(panels.padded())));
    if (!cell.stages) return s;
    s.h = static_cast<const T**>(take(rows * ptrdiff_t(sizeof(T*))));
    s.zeros = static_cast<T*>(take(bytes_of<T>(panels.padded())));
    s.product = static_cast<T*>(take(bytes_of<T>(rows * s.stride)));
    return s;
  }
};
template <class T>
ptrdiff_t scan_backward_scratch(const CellInfo& cell, const Panels& panels, const CellOptions<T>&, ptrdiff_t rows) {
  return ScanBackwardScratch<T>::plan(cell, panels, rows, nullptr).size;
}

template <class T>
struct ScanBackward {
  const BackwardCall<T>& call;
  const CellInfo& cell = *call.cell->info;
  const ptrdiff_t units = call.panels.units, panels = call.panels.count, strips = call.panels.strips;
  const ptrdiff_t strip_columns = call.panels.columns / strips, padded = call.panels.padded();
  const ScanBackwardScratch<T> work =
      ScanBackwardScratch<T>::plan(cell, call.panels, call.last - call.first, call.scratch);

  ptrdiff_t batch(ptrdiff_t r) const { return call.rows.batch[r]; }
  ptrdiff_t time(ptrdiff_t r, ptrdiff_t s) const { return call.direction.time(call.rows, r, s); }
  ptrdiff_t active_at(ptrdiff_t s) const { return active_rows(call.rows, call.first, call.last, s); }
  T* carry(ptrdiff_t r, ptrdiff_t p) const { return call.carry + (p * call.rows.active[0] + r) * units; }
  ptrdiff_t place(ptrdiff_t s, ptrdiff_t r) const {
    return call.rows.offset[s] - call.rows.offset[call.tape_begin] + r;
  }
  ptrdiff_t vectors(Range range) const { return range.count * units / strips / kLanes<T>; }

  // Of the current step.
  void describe(ptrdiff_t r, ptrdiff_t s) const {
    const bool cut = call.direction.cut(call.rows, r, s), first = s == call.tape_begin;
    ScanGradientRow<T>& row = work.rows[r - call.first];
    row = {};
    row.fresh = s + 1 == call.rows.length[r];
    row.cut = cut;
    if (!cut && !first)
      row.h = call.h.at(batch(r), time(r, s - 1));
    else if (!cut && call.h0.data)
      row.h = call.h0.at(batch(r));
    if (cell.has_cell) {
      if (!cut && !first)
        row.c = call.cells + place(s - 1, r) * padded;
      else if (!cut && call.c0.data)
        row.c = call.c0.at(batch(r));
      row.c_new = call.cells + place(s, r) * padded;
      row.dc = call.dc + r * units;
      if (call.dcn.data) row.later_c = call.dcn.at(batch(r));
    }
    row.x = call.x.at(batch(r), time(r, s));
    row.saved = call.saved + place(s, r) * padded * cell.saved;
    if (call.dy.data) row.dy = call.dy.at(batch(r), time(r, s));
    if (call.dhn.data) row.later = call.dhn.at(batch(r));
    if (cell.stages && !row.fresh && !call.direction.cut(call.rows, r, s + 1))
      row.product = work.product + (r - call.first) * work.stride;
    row.gates = call.gates + (call.slot[s] + r) * strip_columns;
    row.carry = carry(r, 0);
    if (call.unit_sums) {
      row.sums = call.unit_sums + (call.unit_slot[s] + r / call.options.group) * sums_size();
      row.first_of_sum = r % call.options.group == 0;
    }
    if (cell.reads_input && call.input_weights) row.dx = call.dx.at(batch(r), time(r, s));
    if (call.gradient_norms.data) row.dh = work.dh;
  }
  ptrdiff_t sums_size() const { return call.options.vectors.gradient_size(call.panels); }

  void run_cell(ptrdiff_t first, ptrdiff_t count) const {
    ScanBackwardCall<T> c = {.rows = work.rows + first,
                             .count = count,
                             .panels = panels,
                             .units = units,
                             .hidden_size = call.hidden_size,
                             .column = {},
                             .gates_panel = strips * call.ring_rows * strip_columns,
                             .carry_panel = call.rows.active[0] * units,
                             .sums_panel = call.unit_rows * sums_size(),
                             .vectors = call.options.unit_weights,
                             .vectors_panel = cell.vectors * units,
                             .add_dx = call.add_dx};
    const ptrdiff_t in_strip = cell.groups / strips;
    for (ptrdiff_t g = 0; g < cell.groups; ++g)
      c.column[g] = g / in_strip * call.ring_rows * strip_columns + g % in_strip * units;
    call.cell->scan.backward(c);
  }

  void step(ptrdiff_t s, ptrdiff_t active) const {
    for (ptrdiff_t r = call.first; r < call.first + active; ++r) describe(r, s);
    if (!call.gradient_norms.data) return run_cell(0, active);
    for (ptrdiff_t r = 0; r < active; ++r) {
      run_cell(r, 1);
      *call.gradient_norms.at(batch(call.first + r), time(call.first + r, s)) = norm_of(work.dh, call.hidden_size);
    }
  }

  // The gradient that step 0 passes on is that of the initial state. `product`: what comes through a product, or null.
  void copy_gradient(T* to, const T* carried, const T* product, const StateRows<const T>& later, ptrdiff_t r) const {
    const bool empty = call.rows.length[r] == 0;
    for (ptrdiff_t u = 0; u < call.hidden_size; u += kLanes<T>) {
      const ptrdiff_t left = call.hidden_size - u;
      Vec<T> v = {};
      if (!empty)
        v = load<Vec<T>>(carried + u / units * call.rows.active[0] * units + u % units);
      else if (later.data)
        v = load<Vec<T>>(later.at(batch(r)) + u, left);
      if (product) v = v + load<Vec<T>>(product + u);
      store(to + u, v, left);
    }
  }
  void initial_gradient() const {
    const ptrdiff_t running = active_at(0);
    if (cell.stages && running) state_products(0, running);
    for (ptrdiff_t r = call.first; r < call.last; ++r) {
      const bool reached = cell.stages && r < call.first + running && !call.direction.cut(call.rows, r, 0);
      copy_gradient(call.dh0.at(batch(r)), carry(r, 0),
                    reached ? work.product + (r - call.first) * work.stride : nullptr, call.dhn, r);
      if (cell.has_cell) copy_gradient(call.dc0.at(batch(r)), call.dc + r * units, nullptr, call.dcn, r);
    }
  }

  // Gate gradients of `range` of `count` rows, from a place in the ring on and `stride` ring rows apart, times packed
  // weights towards the columns of `columns`: calls done(first row, rows, first column, columns, tile).
  template <class Done>
  void product(Range range, const T* weights, const ColumnPanels& columns, ptrdiff_t position, ptrdiff_t stride,
               ptrdiff_t count, const Done& done) const {
    constexpr ptrdiff_t L = kLanes<T>;
    alignas(64) T out[kMaxRows * kTileVectors * L];
    const ptrdiff_t depth = range.count * units / strips;
    for (ptrdiff_t j = 0; j < columns.count(); ++j) {
      const ptrdiff_t from = columns.begin(j) * L, width = columns.begin(j + 1) * L - from;
      for (ptrdiff_t i = 0; i < panels * strips; ++i)
        work.segments[i] = {call.gates + (i * call.ring_rows + position) * strip_columns + range.begin * units,
                            stride * strip_columns, weights + from * panels * strips * depth + i * depth * width,
                            depth};
      const Tile<T> tile = {work.segments, panels * strips, bytes_of<T>(width), nullptr, 0, out, width};
      const int nv = int(width / L);
      const Split tiles = split(count, max_rows(nv));
      for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
        multiply(tile, tiles.begin(i), tiles.size(i), nv);
        done(tiles.begin(i), tiles.size(i), from, width, static_cast<const T*>(out));
      }
    }
  }

  // The gradient of h that enters step s, through its product, of the first `active` rows.
  void state_products(ptrdiff_t s, ptrdiff_t active) const {
    product(cell.recurrent[0], call.hidden_weights[0], {padded / kLanes<T>, kTileVectors}, call.slot[s] + call.first, 1,
            active, [&](ptrdiff_t first, ptrdiff_t count, ptrdiff_t from, ptrdiff_t width, const T* out) {
              for (ptrdiff_t i = 0; i < count; ++i)
                copy_row(work.product + (first + i) * work.stride + from, out + i * width, width);
            });
  }

  // dx of `count` steps of rows from a place in the ring on; to(i): where the i-th goes.
  template <class To>
  void input_gradient(ptrdiff_t s, ptrdiff_t r, ptrdiff_t stride, ptrdiff_t count, const To& to) const {
    constexpr ptrdiff_t L = kLanes<T>;
    const bool add = call.add_dx || cell.reads_input;
    product(cell.input, call.input_weights, {(call.input_size + L - 1) / L, kTileVectors}, call.slot[s] + r, stride,
            count, [&](ptrdiff_t first, ptrdiff_t rows, ptrdiff_t from, ptrdiff_t width, const T* out) {
              for (ptrdiff_t m = 0; m < rows; ++m) {
                T* row = to(first + m) + from;
                for (ptrdiff_t k = 0; k < width && from + k < call.input_size; k += L) {
                  const ptrdiff_t left = call.input_size - from - k;
                  Vec<T> v = load<Vec<T>>(out + m * width + k);
                  if (add) v = load<Vec<T>>(row + k, left) + v;
                  store(row + k, v, left);
                }
              }
            });
  }

  // Tiles are made of the rows of a step or of the steps of a row, whichever are more.
  void input_gradients() const {
    const auto dx = [&](ptrdiff_t r, ptrdiff_t s) { return call.dx.at(batch(r), time(r, s)); };
    if (active_at(call.begin) >= call.end - call.begin) {
      for (ptrdiff_t s = call.begin; s < call.end; ++s)
        input_gradient(s, call.first, 1, active_at(s), [&](ptrdiff_t i) { return dx(call.first + i, s); });
      return;
    }
    for (ptrdiff_t r = call.first; r < call.first + active_at(call.begin); ++r) {
      const ptrdiff_t end = call.rows.length[r] < call.end ? call.rows.length[r] : call.end;
      for (ptrdiff_t s = end - 1; s >= call.begin;) {  // stretches of steps that lie at a constant distance
        const ptrdiff_t stride = s > call.begin ? call.slot[s - 1] - call.slot[s] : 0;
        ptrdiff_t count = 1;
        while (s - count >= call.begin && call.slot[s - count] - call.slot[s - count + 1] == stride) ++count;
        input_gradient(s, r, stride, count, [&](ptrdiff_t i) { return dx(r, s - i); });
        s -= count;
      }
    }
  }

  // The operands of the weights' gradient: x, and h where a product reads it.
  void pack_operands(ptrdiff_t s, ptrdiff_t active) const {
    const ptrdiff_t to = call.slot[s] + call.first;
    pack_operand(
        call.operands[0], call.ring_rows, to, active, [&](ptrdiff_t r) { return work.rows[r].x; }, call.input_size,
        true, int(vectors(cell.input)));
    if (!cell.stages) return;
    for (ptrdiff_t r = 0; r < active; ++r) work.h[r] = work.rows[r].h ? work.rows[r].h : work.zeros;
    pack_operand(call.operands[1], call.ring_rows, to, active, RowsByAddress<T>{work.h}, call.hidden_size,
                 needs_hidden_ones(cell), int(vectors(cell.recurrent[0])));
  }

  void run() const {
    Poll poll = {call.stop, Poll::kInterval};
    const ptrdiff_t depth = call.input_size + (cell.stages ? call.hidden_size : 0);
    if (cell.stages) zero_row(work.zeros, padded);
    for (ptrdiff_t s = call.end - 1; s >= call.begin; --s) {
      const ptrdiff_t active = active_at(s), later = active_at(s + 1);
      if (cell.stages && later) state_products(s + 1, later);
      step(s, active);
      pack_operands(s, active);
      if (poll.stopped(active * panels * call.panels.columns * depth)) return;
    }
    if (call.input_weights) input_gradients();
    if (call.begin == 0 && call.dh0.data) initial_gradient();
  }
};

template <class T>
void scan_backward(const BackwardCall<T>& call) {
  ScanBackward<T>{call}.run();
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
