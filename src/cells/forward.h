// The one forward loop: time, stages, panels, tiles of rows; a cell's equations run on each tile while it is in L1.
#pragma once
#include "cells/unit.h"
#include "gemm/tile.h"

namespace recurra::RECURRA_ISA {
namespace {

constexpr ptrdiff_t kTileColumns = 4;  // vectors in the widest tile

// Row strides of work buffers: whole cache lines, and never a power of two, which would crowd rows into few cache sets.
template <class T>
constexpr ptrdiff_t work_stride(ptrdiff_t n) {
  constexpr ptrdiff_t line = 64 / sizeof(T);
  return (n + line - 1) / line * line + line;
}

template <class T>
RECURRA_INLINE void copy_row(T* to, const T* from, ptrdiff_t n) {
  ptrdiff_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(to + i, load<Vec<T>>(from + i));
  if (i < n) copy_tail<kLanes<T> / 2>(to + i, from + i, n - i);
}
template <class T>
RECURRA_INLINE void zero_row(T* to, ptrdiff_t n) {
  for (ptrdiff_t i = 0; i < n; ++i) to[i] = 0;
}

// A long call looks at the clock every million multiply-adds or so.
struct Poll {
  Stop* stop;
  ptrdiff_t left;
  RECURRA_INLINE bool stopped(ptrdiff_t work) {
    if (!stop || (left -= work) > 0) return false;
    left = kInterval;
    return stop->poll();
  }
  static constexpr ptrdiff_t kInterval = 1 << 20;
};

// With few rows and many inputs the input's product is made ahead, for a block of steps at once: as a matrix-vector
// product per step it would read all of W_ih each time. The bits are the same.
constexpr ptrdiff_t kAheadRows = 3, kAheadInputs = 8, kAheadSteps = 64;

template <class T>
struct ForwardScratch {
  T* h[2];     // [row][hidden_stride], of the step before and of this one
  T* c;        // [panel][row][units]
  T* x;        // [row][input_stride]
  T* operand;  // [row][hidden_stride], the second stage's
  T* saved;    // as a step of the tape, if there is none
  T* ahead;    // [step][row][panel][columns]
  T* tile;     // [row][columns], or [panel][columns] of a single row
  T** y;       // [row] where this step's output goes
  ptrdiff_t hidden_stride, input_stride, ahead_steps;
  ptrdiff_t size;

  static ForwardScratch plan(const CellInfo& cell, const Panels& panels, ptrdiff_t input_size, ptrdiff_t rows,
                             ptrdiff_t steps, bool tape, T* base) {
    ForwardScratch s = {};
    ptrdiff_t used = 0;
    auto take = [&](ptrdiff_t n) {
      T* p = base ? base + used : nullptr;
      used += (n + 63) / 64 * 64;
      return p;
    };
    constexpr ptrdiff_t pointer_size = sizeof(void*);
    const ptrdiff_t padded = panels.padded();
    s.hidden_stride = work_stride<T>(padded);
    s.input_stride = work_stride<T>(input_size);
    for (T*& h : s.h) h = take(rows * s.hidden_stride);
    if (cell.has_cell) s.c = take(rows * padded);
    const bool ahead = rows <= kAheadRows && input_size >= kAheadInputs && steps > 1;
    if (ahead) {
      s.ahead_steps = (1 << 15) / (rows * panels.count * panels.columns);
      s.ahead_steps = s.ahead_steps < 8 ? 8 : s.ahead_steps;
      s.ahead_steps = s.ahead_steps < kAheadSteps ? s.ahead_steps : kAheadSteps;
      s.ahead_steps = s.ahead_steps < steps ? s.ahead_steps : steps;
      s.ahead = take(s.ahead_steps * rows * panels.count * panels.columns);
    }
    s.x = take((ahead ? s.ahead_steps : 1) * rows * s.input_stride);
    s.tile = take((panels.count > kMaxRows ? panels.count : kMaxRows) * panels.columns);
    if (cell.stages > 1) s.operand = take(rows * s.hidden_stride);
    if (cell.stages > 1 && !tape) s.saved = take(rows * panels.count * cell.saved * panels.units);
    s.y = reinterpret_cast<T**>(take(rows * pointer_size / ptrdiff_t(sizeof(T))));
    s.size = used;
    return s;
  }
};

// V: the vector that the epilogue works in, half a register where a panel has half as many units.
template <class Cell, class T, class V>
struct Forward {
  static constexpr CellInfo kCell = Cell::kInfo;
  static constexpr bool kMerged =
      kCell.input.begin == kCell.recurrent[0].begin && kCell.input.count == kCell.recurrent[0].count;

  const ForwardCall<T>& call;
  const ptrdiff_t units = call.panels.units, columns = call.panels.columns, panels = call.panels.count;
  const ptrdiff_t hidden_size = call.hidden_size, input_size = call.input_size;
  const ptrdiff_t rows = call.last - call.first;
  const ForwardScratch<T> work = ForwardScratch<T>::plan(kCell, call.panels, call.input_size, rows, call.rows.steps,
                                                         call.saved != nullptr, call.scratch);

  // Of the step at hand:
  ptrdiff_t step = 0, active = 0;
  T *h_in = nullptr, *h_out = nullptr;

  ptrdiff_t batch(ptrdiff_t r) const { return call.rows.batch[call.first + r]; }
  const T* input(ptrdiff_t r, ptrdiff_t s) const {
    return call.x.at(batch(r), call.direction.time(call.rows, call.first + r, s));
  }
  ptrdiff_t active_at(ptrdiff_t s) const {
    const ptrdiff_t n = call.rows.active[s] - call.first;
    return n < 0 ? 0 : n < rows ? n : rows;
  }
  int vectors(Range range) const { return int(range.count * units / kLanes<T>); }

  // Where unit row r of panel p keeps its saved values, and the row's stride there.
  T* saved(ptrdiff_t p, ptrdiff_t r) const {
    const ptrdiff_t width = kCell.saved * units;
    if (!call.saved) return work.saved ? work.saved + (p * rows + r) * width : nullptr;
    return call.saved + (call.rows.offset[step] * panels + p * call.rows.active[step] + call.first + r) * width;
  }
  T* tape_c(ptrdiff_t p, ptrdiff_t r) const {
    return call.cells + (call.rows.offset[step] * panels + p * call.rows.active[step] + call.first + r) * units;
  }

  void start() const {
    for (ptrdiff_t r = 0; r < rows; ++r) {
      T* h = work.h[0] + r * work.hidden_stride;
      if (call.h0.data)
        copy_row(h, call.h0.at(batch(r)), hidden_size);
      else
        zero_row(h, hidden_size);
      zero_row(h + hidden_size, call.panels.padded() - hidden_size);
      if constexpr (kCell.has_cell) {
        for (ptrdiff_t p = 0; p < panels; ++p) {
          T* c = work.c + (p * rows + r) * units;
          const ptrdiff_t n = hidden_size - p * units < units ? hidden_size - p * units : units;
          zero_row(c, units);
          if (call.c0.data) copy_row(c, call.c0.at(batch(r)) + p * units, n);
        }
      }
    }
  }

  void finish(ptrdiff_t begin, ptrdiff_t end, const T* h) const {
    for (ptrdiff_t r = begin; r < end; ++r) {
      if (call.hn.data) copy_row(call.hn.at(batch(r)), h + r * work.hidden_stride, hidden_size);
      if constexpr (kCell.has_cell) {
        if (!call.cn.data) continue;
        for (ptrdiff_t p = 0; p < panels; ++p) {
          const ptrdiff_t n = hidden_size - p * units < units ? hidden_size - p * units : units;
          copy_row(call.cn.at(batch(r)) + p * units, work.c + (p * rows + r) * units, n);
        }
      }
    }
  }

  void drop_state(ptrdiff_t r) const {
    zero_row(h_in + r * work.hidden_stride, hidden_size);
    if constexpr (kCell.has_cell)
      for (ptrdiff_t p = 0; p < panels; ++p) zero_row(work.c + (p * rows + r) * units, units);
  }

  // bias + W_ih x for the steps of a block and all panels; rows of the tiles are (step, row) pairs.
  void input_ahead(ptrdiff_t begin, ptrdiff_t end) const {
    ptrdiff_t n = 0;
    for (ptrdiff_t s = begin; s < end; ++s)
      for (ptrdiff_t r = 0, m = active_at(s); r < m; ++r)
        copy_row(work.x + n++ * work.input_stride, input(r, s), input_size);
    for (ptrdiff_t p = 0; p < panels; ++p) {
      const T* weights = call.weights + p * call.layout.panel;
      const Segment<T> x = {work.x, work.input_stride, weights + call.layout.offset[0], input_size};
      const ptrdiff_t from = kCell.input.begin * units;
      Tile<T> tile = {&x, 1, call.layout.width[0], weights + from, 0, nullptr, panels * columns};
      const Split tiles = split(n, max_rows(vectors(kCell.input)));
      for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
        tile.out = work.ahead + (tiles.begin(i) * panels + p) * columns + from;
        multiply(tile, tiles.begin(i), tiles.size(i), vectors(kCell.input));
      }
    }
  }

  // `m` rows of one panel, or one row of several.
  void multiply_rows(Tile<T>& tile, ptrdiff_t r0, int m, int group, int width) const {
    if (m > 1) return multiply(tile, r0, m, width);
    tile.b_panel = call.layout.panel;
    tile.out_panel = columns;
    multiply_row(tile, r0, group, width);
  }

  // A tile of pre-activations: rows [r0, r0 + m) of panel p, or row r0 of panels [p, p + group). `ahead`: the step's
  // first row there, or null.
  template <int stage>
  void multiply_tile_of(ptrdiff_t p, int group, ptrdiff_t r0, int m, const T* x, ptrdiff_t x_stride, const T* ahead,
                        T* out) const {
    constexpr Range range = kCell.recurrent[stage];
    const T* weights = call.weights + p * call.layout.panel;
    const PackedLayout& layout = call.layout;
    const T* operand = stage ? work.operand : h_in;
    const Segment<T> segments[2] = {{x, x_stride, weights + layout.offset[0], input_size},
                                    {operand, work.hidden_stride, weights + layout.offset[1 + stage], hidden_size}};
    const ptrdiff_t from = range.begin * units;
    Tile<T> tile = {segments + 1, 1, layout.width[1 + stage], nullptr, columns, out + from, columns};
    if constexpr (stage > 0) {
      tile.init = saved(p, r0) + Cell::kPending * units;
      tile.init_row = kCell.saved * units;
      tile.init_panel = saved(p + 1, r0) - saved(p, r0);
    } else {
      const T* init = ahead ? ahead + (r0 * panels + p) * columns : weights;
      const ptrdiff_t init_row = ahead ? panels * columns : 0, init_panel = ahead ? columns : layout.panel;
      if constexpr (kMerged) {
        tile.init = init + from;
        tile.init_row = init_row;
        tile.init_panel = init_panel;
        if (!ahead) tile.segments = segments, tile.segment_count = 2;
      } else {
        const ptrdiff_t input_from = kCell.input.begin * units, end = input_from + layout.width[0];
        // Rows of one panel or panels of one row: `out` has the same distance between either.
        for (int i = 0; i < (m > 1 ? m : group); ++i) {
          T* row = out + i * columns;
          if (ahead)
            copy_row(row + input_from, init + i * (m > 1 ? init_row : init_panel) + input_from, layout.width[0]);
          // Columns that the input does not feed start from the bias.
          copy_row(row + end, weights + (m > 1 ? 0 : i * layout.panel) + end, columns - end);
        }
        if (!ahead) {
          Tile<T> input = {segments, 1, layout.width[0], init + input_from, 0, out + input_from, columns};
          input.init_panel = layout.panel;
          multiply_rows(input, r0, m, group, vectors(kCell.input));
        }
        tile.init = out + from;
        tile.init_row = tile.init_panel = columns;
      }
    }
    multiply_rows(tile, r0, m, group, vectors(range));
  }

  template <int stage>
  void epilogue(ptrdiff_t p, ptrdiff_t r0, int m, const T* tile) const {
    constexpr bool last = stage + 1 == kCell.stages;
    constexpr int L = lanes<V>();
    const ptrdiff_t left = hidden_size - p * units;
    for (ptrdiff_t r = r0; r < r0 + m; ++r, tile += columns) {
      T* h = h_out + r * work.hidden_stride + p * units;
      T* c = kCell.has_cell ? work.c + (p * rows + r) * units : nullptr;
      T* tape = kCell.stages > 1 || call.saved ? saved(p, r) : nullptr;
      for (ptrdiff_t w = 0; w < units; w += L) {
        Unit<V> u;
        for (int g = 0; g < kCell.groups; ++g) u.pre[g] = load<V>(tile + g * units + w);
        if constexpr (Cell::kUsesPrevious) u.h = load<V>(h_in + r * work.hidden_stride + p * units + w);
        if constexpr (kCell.has_cell) u.c = load<V>(c + w);
        if constexpr (stage > 0)
          for (int i = 0; i < kCell.saved; ++i) u.saved[i] = load<V>(tape + i * units + w);
        Cell::template forward<stage>(u);
        if constexpr (last) {
          store(h + w, u.h);
          if (call.y.data) store(work.y[r] + p * units + w, u.h, left - w);
        } else {
          store(work.operand + r * work.hidden_stride + p * units + w, u.operand);
        }
        if constexpr (kCell.has_cell) store(c + w, u.c);
        if (!tape) continue;
        for (int i = 0; i < kCell.saved; ++i) store(tape + i * units + w, u.saved[i]);
        if constexpr (kCell.has_cell) store(tape_c(p, r) + w, u.c);
      }
    }
  }

  template <int stage>
  bool run_stage(Poll& poll, const T* x, ptrdiff_t x_stride, const T* ahead) const {
    const int widest = stage || kMerged
                           ? vectors(kCell.recurrent[stage])
                           : vectors(kCell.input.count > kCell.recurrent[0].count ? kCell.input : kCell.recurrent[0]);
    const Split tiles = split(active, max_rows(widest));
    if (active == 1) {  // all products, then all epilogues: neither waits for the other's latency panel by panel
      for (ptrdiff_t p = 0; p < panels;) {
        int group = panels_at_once(widest);
        while (p + group > panels) group /= 2;
        multiply_tile_of<stage>(p, group, 0, 1, x, x_stride, ahead, work.tile + p * columns);
        if (poll.stopped(group * columns * (hidden_size + input_size))) return false;
        p += group;
      }
      for (ptrdiff_t p = 0; p < panels; ++p) epilogue<stage>(p, 0, 1, work.tile + p * columns);
    } else {
      for (ptrdiff_t p = 0; p < panels; ++p) {
        for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
          multiply_tile_of<stage>(p, 1, tiles.begin(i), tiles.size(i), x, x_stride, ahead, work.tile);
          epilogue<stage>(p, tiles.begin(i), tiles.size(i), work.tile);
        }
        if (poll.stopped(active * columns * (hidden_size + input_size))) return false;
      }
    }
    if constexpr (stage + 1 < kCell.stages) return run_stage<stage + 1>(poll, x, x_stride, ahead);
    return true;
  }

  void run() {
    Poll poll = {call.stop, Poll::kInterval};
    start();
    h_out = work.h[0];
    active = rows;
    const T* ahead = nullptr;
    for (step = 0; step < call.rows.steps; ++step) {
      const ptrdiff_t running = active_at(step);
      finish(running, active, h_out);
      active = running;
      if (!active) return;
      h_in = work.h[step & 1];
      h_out = work.h[~step & 1];
      if (call.rows.reset)
        for (ptrdiff_t r = 0; r < active; ++r)
          if (call.direction.cut(call.rows, call.first + r, step)) drop_state(r);
      if (call.y.data)
        for (ptrdiff_t r = 0; r < active; ++r)
          work.y[r] = call.y.at(batch(r), call.direction.time(call.rows, call.first + r, step));
      const T* x = work.x;
      if (work.ahead) {
        if (step % work.ahead_steps == 0) {
          const ptrdiff_t end = step + work.ahead_steps;
          input_ahead(step, end < call.rows.steps ? end : call.rows.steps);
          ahead = work.ahead;
        }
      } else if (active == 1) {
        x = input(0, step);
      } else {
        for (ptrdiff_t r = 0; r < active; ++r) copy_row(work.x + r * work.input_stride, input(r, step), input_size);
      }
      if (!run_stage<0>(poll, x, work.input_stride, ahead)) return;
      if (ahead) ahead += active * panels * columns;
    }
    finish(0, active, h_out);
  }
};

template <class Cell, class T>
void forward(const ForwardCall<T>& call) {
  if constexpr (Cell::kInfo.groups == 4 && Cell::kInfo.has_cell && kVectorBytes == 64) {
    if (call.panels.units < kLanes<T>) return Forward<Cell, T, HalfVec<T>>{call}.run();
  }
  Forward<Cell, T, Vec<T>>{call}.run();
}

template <class Cell, class T>
ptrdiff_t forward_scratch(const Panels& panels, ptrdiff_t input_size, ptrdiff_t rows, ptrdiff_t steps) {
  return ForwardScratch<T>::plan(Cell::kInfo, panels, input_size, rows, steps, false, nullptr).size;
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
