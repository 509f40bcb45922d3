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
  ptrdiff_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(to + i, Vec<T>{});
  const T zeros[kLanes<T>] = {};
  if (i < n) copy_tail<kLanes<T> / 2>(to + i, static_cast<const T*>(zeros), n - i);
}

// Panels of half a vector's units: for cells whose columns fill whole vectors even so.
constexpr bool has_half_panels(const CellInfo& cell) { return cell.groups == 4 && cell.has_cell && kVectorBytes == 64; }

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

// The input's product is made ahead, for a block of steps at once, where a product per step would wait for W_ih to be
// read each time: with a row or two, and with some more where the weights are far away. The bits are the same.
constexpr ptrdiff_t kAheadRows = 3, kAheadRowsFar = 16, kFarBytes = 8 << 20, kAheadInputs = 8, kAheadSteps = 64;
template <class T>
bool input_goes_ahead(const Panels& panels, ptrdiff_t input_size, ptrdiff_t rows, ptrdiff_t steps) {
  const ptrdiff_t bytes = panels.count * panels.columns * (input_size + panels.padded()) * ptrdiff_t(sizeof(T));
  return steps > 1 && input_size >= kAheadInputs && rows <= (bytes > kFarBytes ? kAheadRowsFar : kAheadRows);
}

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
    const bool ahead = input_goes_ahead<T>(panels, input_size, rows, steps);
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

template <class Cell, class T, bool paired>
struct Forward {
  typedef Lanes<T, paired> L;
  typedef Vec<T> V;
  static constexpr CellInfo kCell = Cell::kInfo;
  static constexpr bool kMerged =
      kCell.input.begin == kCell.recurrent[0].begin && kCell.input.count == kCell.recurrent[0].count;

  const ForwardCall<T>& call;
  const ptrdiff_t units = call.panels.units, columns = call.panels.columns, panels = call.panels.count;
  const ptrdiff_t hidden_size = call.hidden_size, input_size = call.input_size;
  const ptrdiff_t rows = call.last - call.first;
  const ForwardScratch<T> work = ForwardScratch<T>::plan(kCell, call.panels, call.input_size, rows, call.rows.steps,
                                                         call.saved != nullptr, call.scratch);
  // In a team the state and the second stage's operand are one for all, at the same places in the first member's
  // scratch; the rest is each member's own.
  T* const state[2] = {of_team(work.h[0]), of_team(work.h[1])};
  T* const operand = kCell.stages > 1 ? of_team(work.operand) : nullptr;
  // This member's panels.
  const ptrdiff_t first_panel = call.team.barrier ? panels * call.team.member / call.team.members : 0;
  const ptrdiff_t last_panel = call.team.barrier ? panels * (call.team.member + 1) / call.team.members : panels;

  // Of the step at hand:
  ptrdiff_t step = 0, active = 0;
  T *h_in = nullptr, *h_out = nullptr;

  T* of_team(T* mine) const {
    return call.team.barrier ? static_cast<T*>(call.team.scratch) + (mine - call.scratch) : mine;
  }
  ptrdiff_t batch(ptrdiff_t r) const { return call.rows.batch[call.first + r]; }
  // Calls f(panel, its first unit, units, padded units) for this member's panels, all at once for a single row, whose
  // panels lie side by side everywhere.
  template <class F>
  RECURRA_INLINE void for_units(const F& f) const {
    const ptrdiff_t run = rows == 1 ? last_panel - first_panel : 1;
    for (ptrdiff_t p = first_panel; p < last_panel; p += run) {
      const ptrdiff_t u = p * units, padded = run * units, left = hidden_size - u;
      f(p, u, left < padded ? left : padded, padded);
    }
  }
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

  // Copies h and c, or zeros where there are none, into the work buffers.
  void start() const {
    for (ptrdiff_t r = 0; r < rows; ++r) {
      for_units([&](ptrdiff_t p, ptrdiff_t u, ptrdiff_t n, ptrdiff_t padded) {
        T* h = state[0] + r * work.hidden_stride + u;
        if (!call.h0.data || n < padded) zero_row(h, padded);
        if (call.h0.data) copy_row(h, call.h0.at(batch(r)) + u, n);
        if constexpr (kCell.has_cell) {
          T* c = work.c + (p * rows + r) * units;
          if (!call.c0.data || n < padded) zero_row(c, padded);
          if (call.c0.data) copy_row(c, call.c0.at(batch(r)) + u, n);
        }
      });
    }
  }

  void finish(ptrdiff_t begin, ptrdiff_t end, const T* h) const {
    for (ptrdiff_t r = begin; r < end; ++r) {
      for_units([&](ptrdiff_t p, ptrdiff_t u, ptrdiff_t n, ptrdiff_t) {
        if (call.hn.data) copy_row(call.hn.at(batch(r)) + u, h + r * work.hidden_stride + u, n);
        if constexpr (kCell.has_cell)
          if (call.cn.data) copy_row(call.cn.at(batch(r)) + u, work.c + (p * rows + r) * units, n);
      });
    }
  }

  void drop_state(ptrdiff_t r) const {
    for (ptrdiff_t p = first_panel; p < last_panel; ++p) {
      zero_row(h_in + r * work.hidden_stride + p * units, units);
      if constexpr (kCell.has_cell) zero_row(work.c + (p * rows + r) * units, units);
    }
  }

  // What every member has written so far, all can read. False: another gave up.
  bool meet() const { return !call.team.barrier || call.team.barrier->wait(call.team.members); }

  // bias + W_ih x for the steps of a block; rows of the tiles are (step, row) pairs.
  void input_ahead(ptrdiff_t begin, ptrdiff_t end) const {
    ptrdiff_t n = 0;
    for (ptrdiff_t s = begin; s < end; ++s)
      for (ptrdiff_t r = 0, m = active_at(s); r < m; ++r)
        copy_row(work.x + n++ * work.input_stride, input(r, s), input_size);
    for (ptrdiff_t p = first_panel; p < last_panel; ++p) {
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
    const T* from_h = stage ? operand : h_in;
    const ptrdiff_t depth = step == 0 && !call.h0.data ? 0 : hidden_size;  // of a state of zeros nothing comes
    const Segment<T> segments[2] = {{x, x_stride, weights + layout.offset[0], input_size},
                                    {from_h, work.hidden_stride, weights + layout.offset[1 + stage], depth}};
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

  // Asks for what the epilogue of a tile will write beside the state, which the product before it gives time to arrive:
  // more lines at once than wait in the queue of stores.
  void prefetch_outputs(ptrdiff_t p, ptrdiff_t r0, int m) const {
    if (!call.saved) return;
    prefetch(saved(p, r0), m * kCell.saved * units);
    if constexpr (kCell.has_cell) prefetch(tape_c(p, r0), m * units);
    if (call.y.data)
      for (ptrdiff_t r = r0; r < r0 + m; ++r) prefetch(work.y[r] + p * units, units);
  }

  // The cell's equations on a tile: `count` rows of panel p from r0 on, or (along_panels) row r0 of as many panels.
  template <int stage>
  void epilogue(ptrdiff_t p, ptrdiff_t r0, ptrdiff_t count, bool along_panels, const T* tile) const {
    constexpr bool last = stage + 1 == kCell.stages;
    constexpr ptrdiff_t width = kCell.saved;
    // From an item to the next one.
    const ptrdiff_t h_next = along_panels ? units : work.hidden_stride, c_next = along_panels ? rows * units : units;
    const ptrdiff_t tape_next = !along_panels ? units : (call.saved ? call.rows.active[step] : rows) * units;
    ptrdiff_t h = r0 * work.hidden_stride + p * units, y = p * units, left = hidden_size - p * units;
    T* c = kCell.has_cell ? work.c + (p * rows + r0) * units : nullptr;
    T* tape = kCell.stages > 1 || call.saved ? saved(p, r0) : nullptr;
    T* cells = kCell.has_cell && call.saved ? tape_c(p, r0) : nullptr;
    for (ptrdiff_t i = 0; i < count; i += L::kItems) {
      const bool pair = i + 1 < count;
      T* to = call.y.data ? work.y[along_panels ? r0 : r0 + i] + y : nullptr;
      const ptrdiff_t to_next = !pair || !to ? 0 : along_panels ? units : work.y[r0 + i + 1] - work.y[r0 + i];
      const ptrdiff_t left_next = pair && along_panels ? left - units : left;
      for (ptrdiff_t w = 0; w < units; w += kLanes<T>) {
        Unit<V> u;
        for (int g = 0; g < kCell.groups; ++g) u.pre[g] = L::get(tile + g * units + w, pair * columns);
        if constexpr (Cell::kUsesPrevious) u.h = L::get(h_in + h + w, pair * h_next);
        if constexpr (kCell.has_cell) u.c = L::get(c + w, pair * c_next);
        if constexpr (stage > 0)
          for (int k = 0; k < width; ++k) u.saved[k] = L::get(tape + k * units + w, pair * tape_next * width);
        Cell::template forward<stage>(u);
        if constexpr (last) {
          L::put(h_out + h + w, pair * h_next, u.h);
          if (to) L::put(to + w, to_next, u.h, left - w, left_next - w);
        } else {
          L::put(operand + h + w, pair * h_next, u.operand);
        }
        if constexpr (kCell.has_cell) L::put(c + w, pair * c_next, u.c);
        if (!tape) continue;
        for (int k = 0; k < width; ++k) L::put(tape + k * units + w, pair * tape_next * width, u.saved[k]);
        if constexpr (kCell.has_cell) L::put(cells + w, pair * tape_next, u.c);
      }
      tile += L::kItems * columns;
      h += L::kItems * h_next;
      if (along_panels) y += L::kItems * units, left -= L::kItems * units;
      if (kCell.has_cell) c += L::kItems * c_next;
      if (tape) tape += L::kItems * tape_next * width;
      if (cells) cells += L::kItems * tape_next;
    }
  }

  template <int stage>
  bool run_stage(Poll& poll, const T* x, ptrdiff_t x_stride, const T* ahead) const {
    const int widest = stage || kMerged
                           ? vectors(kCell.recurrent[stage])
                           : vectors(kCell.input.count > kCell.recurrent[0].count ? kCell.input : kCell.recurrent[0]);
    const Split tiles = split(active, max_rows(widest));
    // Every other step goes through the panels downwards: the weights read last are still in a near cache.
    const bool down = (step + call.steps_before) % 2;
    const ptrdiff_t mine = last_panel - first_panel;
    if (active == 1) {  // all products, then all epilogues: neither waits for the other's latency panel by panel
      const Split groups = split(mine, max_panels(widest));
      for (ptrdiff_t done = 0; done < groups.tiles; ++done) {
        const ptrdiff_t i = down ? groups.tiles - 1 - done : done, p = first_panel + groups.begin(i);
        multiply_tile_of<stage>(p, groups.size(i), 0, 1, x, x_stride, ahead, work.tile + p * columns);
        if (poll.stopped(groups.size(i) * columns * (hidden_size + input_size))) return false;
      }
      epilogue<stage>(first_panel, 0, mine, true, work.tile + first_panel * columns);
    } else {
      for (ptrdiff_t done = 0; done < mine; ++done) {
        const ptrdiff_t p = down ? last_panel - 1 - done : first_panel + done;
        for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
          if (stage == 0) prefetch_outputs(p, tiles.begin(i), tiles.size(i));
          multiply_tile_of<stage>(p, 1, tiles.begin(i), tiles.size(i), x, x_stride, ahead, work.tile);
          epilogue<stage>(p, tiles.begin(i), tiles.size(i), false, work.tile);
        }
        if (poll.stopped(active * columns * (hidden_size + input_size))) return false;
      }
    }
    if (!meet()) return false;
    if constexpr (stage + 1 < kCell.stages) return run_stage<stage + 1>(poll, x, x_stride, ahead);
    return true;
  }

  void run() {
    if (!run_steps() && call.team.barrier) call.team.barrier->leave();
  }

  // False: it was stopped.
  bool run_steps() {
    Poll poll = {call.stop, Poll::kInterval};
    start();
    if (!meet()) return false;
    h_out = state[0];
    active = rows;
    const T* ahead = nullptr;
    for (step = 0; step < call.rows.steps; ++step) {
      const ptrdiff_t running = active_at(step);
      finish(running, active, h_out);
      active = running;
      if (!active) return true;
      h_in = state[step & 1];
      h_out = state[~step & 1];
      if (call.rows.reset) {
        for (ptrdiff_t r = 0; r < active; ++r)
          if (call.direction.cut(call.rows, call.first + r, step)) drop_state(r);
        if (!meet()) return false;
      }
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
      if (!run_stage<0>(poll, x, work.input_stride, ahead)) return false;
      if (ahead) ahead += active * panels * columns;
    }
    finish(0, active, h_out);
    return true;
  }
};

template <class Cell, class T>
void forward(const ForwardCall<T>& call) {
  if constexpr (has_half_panels(Cell::kInfo))
    if (call.panels.units < kLanes<T>) return Forward<Cell, T, true>{call}.run();
  Forward<Cell, T, false>{call}.run();
}

template <class Cell, class T>
ptrdiff_t forward_scratch(const Panels& panels, ptrdiff_t input_size, ptrdiff_t rows, ptrdiff_t steps) {
  return ForwardScratch<T>::plan(Cell::kInfo, panels, input_size, rows, steps, false, nullptr).size;
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
