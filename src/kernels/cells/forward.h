// The one forward loop: time, stages, panels, tiles of rows; a cell's equations run on each tile while it is in L1.
#pragma once
#include "kernels/cells/forward_ahead.h"
#include "kernels/cells/forward_options.h"
#include "kernels/cells/norm.h"
#include "kernels/cells/unit.h"
#include "kernels/gemm/tile.h"

namespace recurra::RECURRA_ISA {
namespace {

// Panels of half a vector's units: for cells whose columns fill whole vectors even so.
constexpr bool has_half_panels(const CellInfo& cell) { return cell.groups == 4 && cell.has_cell && kVectorBytes >= 32; }

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

template <class Cell, class T, bool paired, bool optional>
struct Forward {
  typedef Lanes<T, paired> L;
  typedef Vec<T> V;
  typedef typename UnitOf<V, optional>::type StepUnit;
  static constexpr CellInfo kCell = Cell::kInfo;
  static constexpr bool kMerged =
      kCell.input.begin == kCell.recurrent[0].begin && kCell.input.count == kCell.recurrent[0].count;

  const ForwardCall<T>& call;
  const ptrdiff_t units = call.panels.units, columns = call.panels.columns, panels = call.panels.count;
  const ptrdiff_t hidden_size = call.hidden_size, input_size = call.input_size;
  const ptrdiff_t rows = call.last - call.first;
  const CellOptions<T>& options = call.options;
  const ptrdiff_t state_size = optional ? options.state_size : hidden_size;
  const ForwardScratch<T> work = plan();
  // In a team the state and the second stage's operand are one for all, at the same places in the first member's
  // scratch; the rest is each member's own.
  T* const state[2] = {of_team(work.h[0]), of_team(work.h[1])};
  T* const operand = kCell.stages > 1 ? of_team(work.operand) : nullptr;
  // This member's panels.
  ptrdiff_t first_panel = call.team.barrier ? panels * call.team.member / call.team.members : 0;
  ptrdiff_t last_panel = call.team.barrier ? panels * (call.team.member + 1) / call.team.members : panels;
  SpinBarrier* barrier = call.team.barrier;  // null: alone

  const int64_t tape_from = call.rows.offset[call.begin];

  // Of the step at hand:
  ptrdiff_t step = 0, active = 0, ahead_end = call.begin;
  T *h_in = nullptr, *h_out = nullptr, *cells = work.c;
  InputAhead<T> next = {};  // of the block of steps after this one

  ForwardScratch<T> plan() const {
    auto* const head = reinterpret_cast<ForwardScratch<T>*>(call.scratch);
    if (!call.planned)
      *head = ForwardScratch<T>::plan(kCell, call.panels, options, input_size, rows, call.rows.steps,
                                      call.saved != nullptr, call.scratch);
    return *head;
  }

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
  // Of units [u, u + n) those that h has behind a projection.
  ptrdiff_t part_of_state(ptrdiff_t u, ptrdiff_t n) const {
    const ptrdiff_t left = state_size - u;
    return left < 0 ? 0 : left < n ? left : n;
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
    return call.saved + tape_row(p, r) * width;
  }
  T* tape_c(ptrdiff_t p, ptrdiff_t r) const { return call.cells + tape_row(p, r) * units; }
  ptrdiff_t tape_row(ptrdiff_t p, ptrdiff_t r) const {
    return (call.rows.offset[step] - tape_from) * panels + p * call.rows.active[step] + call.first + r;
  }

  // Copies h and c, or zeros where there are none, into the work buffers.
  void start() const {
    for (ptrdiff_t r = 0; r < active; ++r) {
      for_units([&](ptrdiff_t p, ptrdiff_t u, ptrdiff_t n, ptrdiff_t padded) {
        T* h = h_out + r * work.hidden_stride + u;
        const ptrdiff_t m = optional ? part_of_state(u, n) : n;
        if (!call.h0.data || m < padded) zero_row(h, padded);
        if (call.h0.data) copy_row(h, call.h0.at(batch(r)) + u, m);
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
        const ptrdiff_t m = optional ? part_of_state(u, n) : n;
        if (call.hn.data) copy_row(call.hn.at(batch(r)) + u, h + r * work.hidden_stride + u, m);
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
  bool meet() const { return !barrier || barrier->wait(call.team.members) != SpinBarrier::kLeft; }

  // The same at the end of a step, where a team that loses its time with waiting is dissolved: the first member goes on
  // with all panels, for which the others leave their c. False for them, too.
  bool meet_or_part() {
    if (!barrier) return true;
    const SpinBarrier::Answer answer = barrier->wait(call.team.members);
    if (answer != SpinBarrier::kApart) return answer == SpinBarrier::kTogether;
    if constexpr (kCell.has_cell)
      if (const ptrdiff_t from = first_panel * rows * units; call.team.member)
        copy_row(of_team(work.c) + from, work.c + from, (last_panel - first_panel) * rows * units);
    const bool goes_on = meet() && call.team.member == 0;
    barrier = nullptr;
    first_panel = 0;
    last_panel = panels;
    ahead_end = step + 1;  // what was made ahead is for some of the panels only
    next = {};
    return goes_on;
  }

  // The input's product of steps [begin, end), to be made.
  InputAhead<T> input_ahead(ptrdiff_t begin, ptrdiff_t end, T* out) const {
    ptrdiff_t n = 0;
    for (ptrdiff_t s = begin; s < end; ++s)
      for (ptrdiff_t r = 0, m = active_at(s); r < m; ++r)
        copy_row(work.x + n++ * work.input_stride, input(r, s), input_size);
    return {call, kCell.input, work.x, work.input_stride, out, n, first_panel, last_panel};
  }
  // Begins a block: what has been made of its product beside the block before, and the rest now; then the next one's.
  const T* begin_block() {
    const auto end_from = [&](ptrdiff_t s) {
      return s + work.ahead_steps < call.end ? s + work.ahead_steps : call.end;
    };
    ahead_end = end_from(step);
    if (!next.out()) next = input_ahead(step, ahead_end, work.ahead[0]);
    next.finish();
    const T* ahead = next.out();
    next = {};
    if (work.ahead[1] && ahead_end < call.end)
      next = input_ahead(ahead_end, end_from(ahead_end), work.ahead[ahead == work.ahead[0]]);
    return ahead;
  }

  // `m` rows of one panel, or one row of several.
  void multiply_rows(Tile<T>& tile, ptrdiff_t r0, int m, int group, int width) const {
    if (m > 1) return multiply(tile, r0, m, width);
    tile.b_panel = call.layout.panel;
    tile.out_panel = columns;
    multiply_row(tile, r0, group, width);
  }

  const T* recurrent_operand() const {
    if constexpr (optional)
      if (work.masked) return work.masked;
    return h_in;
  }

  // A tile of pre-activations: rows [r0, r0 + m) of panel p, or row r0 of panels [p, p + group). `ahead`: the step's
  // first row there, or null.
  template <int stage>
  void multiply_tile_of(ptrdiff_t p, int group, ptrdiff_t r0, int m, const T* x, ptrdiff_t x_stride, const T* ahead,
                        T* out) {
    constexpr Range range = kCell.recurrent[stage];
    const T* weights = call.weights + p * call.layout.panel;
    const PackedLayout& layout = call.layout;
    const T* from_h = stage ? operand : recurrent_operand();
    const ptrdiff_t depth = step == 0 && !call.h0.data ? 0 : state_size;  // of a state of zeros nothing comes
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
    if constexpr (kCell.stages == 1)
      if (m == 1 && group == 1 && next.pending(depth)) return next.make_beside(tile, r0);
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

  // Of the options, what c's equations take: for the item (a row, or a panel of one) at hand and the next one.
  void set_options(StepUnit& u, ptrdiff_t p, ptrdiff_t r, ptrdiff_t w, ptrdiff_t panel_next, ptrdiff_t row_next) const {
    const Panels& panel = call.panels;
    const ptrdiff_t size = options.vectors.size(panel);
    for (int i = 0; i < 3; ++i)
      u.peephole[i] =
          options.vectors.peepholes ? L::get(options.unit_weights + p * size + i * units + w, panel_next * size) : V{};
    u.limit = broadcast<V>(options.clip);
    u.zone = options.zone_c.random ? L::get(work.zone + r * panel.padded() + p * units + w,
                                            panel_next * units + row_next * panel.padded())
                                   : broadcast<V>(options.zone_c.rate);
    u.normalised = options.normalised();
  }

  // The cell's equations on a tile: `count` rows of panel p from r0 on, or (along_panels) row r0 of as many panels.
  // `tile_next`: from an item to the next one.
  template <int stage>
  void epilogue(ptrdiff_t p, ptrdiff_t r0, ptrdiff_t count, bool along_panels, const T* tile,
                ptrdiff_t tile_next) const {
    constexpr bool last = stage + 1 == kCell.stages;
    constexpr ptrdiff_t width = kCell.saved;
    // From an item to the next one.
    const ptrdiff_t h_next = along_panels ? units : work.hidden_stride, c_next = along_panels ? rows * units : units;
    const ptrdiff_t tape_next = !along_panels ? units : (call.saved ? call.rows.active[step] : rows) * units;
    ptrdiff_t h = r0 * work.hidden_stride + p * units, y = p * units, left = hidden_size - p * units;
    T* c = kCell.has_cell ? cells + (p * rows + r0) * units : nullptr;
    T* tape = kCell.stages > 1 || call.saved ? saved(p, r0) : nullptr;
    T* c_tape = kCell.has_cell && call.saved ? tape_c(p, r0) : nullptr;
    for (ptrdiff_t i = 0; i < count; i += L::kItems) {
      const bool pair = i + 1 < count;
      T* to = call.y.data ? work.y[along_panels ? r0 : r0 + i] + y : nullptr;
      const ptrdiff_t to_next = !pair || !to ? 0 : along_panels ? units : work.y[r0 + i + 1] - work.y[r0 + i];
      const ptrdiff_t left_next = pair && along_panels ? left - units : left;
      for (ptrdiff_t w = 0; w < units; w += kLanes<T>) {
        StepUnit u;
        for (int g = 0; g < kCell.groups; ++g) u.pre[g] = L::get(tile + g * units + w, pair * tile_next);
        if constexpr (optional && kCell.has_cell)
          set_options(u, along_panels ? p + i : p, along_panels ? r0 : r0 + i, w, along_panels && pair,
                      !along_panels && pair);
        if constexpr (Cell::kUsesPrevious) u.h = L::get(h_in + h + w, pair * h_next);
        if constexpr (kCell.has_cell) u.c = L::get(c + w, pair * c_next);
        if constexpr (stage > 0)
          for (int k = 0; k < width; ++k) u.saved[k] = L::get(tape + k * units + w, pair * tape_next * width);
        Cell::template forward<stage>(u);
        if constexpr (last && optional) {
          L::put(work.made + h + w, pair * h_next, u.h);
          if constexpr (kCell.has_cell)
            if (work.candidate)
              L::put(work.candidate + (along_panels ? p + i : i * panels + p) * units + w,
                     pair * (along_panels ? units : panels * units), u.candidate);
        } else if constexpr (last) {
          L::put(h_out + h + w, pair * h_next, u.h);
          if (to) L::put(to + w, to_next, u.h, left - w, left_next - w);
        } else {
          if constexpr (optional)
            if (options.recurrent_mask)
              u.operand =
                  u.operand * load<V>(options.recurrent_mask + batch(along_panels ? r0 : r0 + i) * options.mask_row +
                                      (along_panels ? p + i : p) * units + w);
          L::put(operand + h + w, pair * h_next, u.operand);
        }
        if constexpr (kCell.has_cell) L::put(c + w, pair * c_next, u.c);
        if (!tape) continue;
        for (int k = 0; k < width; ++k) L::put(tape + k * units + w, pair * tape_next * width, u.saved[k]);
        if constexpr (kCell.has_cell) L::put(c_tape + w, pair * tape_next, u.c);
      }
      tile += L::kItems * tile_next;
      h += L::kItems * h_next;
      if (along_panels) y += L::kItems * units, left -= L::kItems * units;
      if (kCell.has_cell) c += L::kItems * c_next;
      if (tape) tape += L::kItems * tape_next * width;
      if (c_tape) c_tape += L::kItems * tape_next;
    }
  }

  template <int stage>
  bool run_stage(Poll& poll, const T* x, ptrdiff_t x_stride, const T* ahead) {
    const int widest = stage || kMerged
                           ? vectors(kCell.recurrent[stage])
                           : vectors(kCell.input.count > kCell.recurrent[0].count ? kCell.input : kCell.recurrent[0]);
    const Split tiles = split(active, max_rows(widest));
    // Every other step goes through the panels downwards: the weights read last are still in a near cache.
    const bool down = (step + call.steps_before) % 2;
    const ptrdiff_t mine = last_panel - first_panel;
    if (active == 1) {  // all products, then all epilogues: neither waits for the other's latency panel by panel
      const Split groups = split(mine, next.pending(state_size) ? 1 : max_panels(widest));
      for (ptrdiff_t done = 0; done < groups.tiles; ++done) {
        const ptrdiff_t i = down ? groups.tiles - 1 - done : done, p = first_panel + groups.begin(i);
        multiply_tile_of<stage>(p, groups.size(i), 0, 1, x, x_stride, ahead, work.tile + p * columns);
        if (poll.stopped(groups.size(i) * columns * (hidden_size + input_size))) return false;
      }
      epilogue<stage>(first_panel, 0, mine, true, work.tile + first_panel * columns, columns);
    } else {
      for (ptrdiff_t done = 0; done < mine; ++done) {
        const ptrdiff_t p = down ? last_panel - 1 - done : first_panel + done;
        for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
          if (stage == 0) prefetch_outputs(p, tiles.begin(i), tiles.size(i));
          multiply_tile_of<stage>(p, 1, tiles.begin(i), tiles.size(i), x, x_stride, ahead, work.tile);
          epilogue<stage>(p, tiles.begin(i), tiles.size(i), false, work.tile, columns);
        }
        if (poll.stopped(active * columns * (hidden_size + input_size))) return false;
      }
    }
    if constexpr (stage + 1 < kCell.stages)
      return meet() && run_stage<stage + 1>(poll, x, x_stride, ahead);
    else
      return meet_or_part();
  }

  // The step of a normalised cell: a few rows at a time, since the equations wait for a row's whole product.
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
        const T* weights = call.weights + p * call.layout.panel;
        const Segment<T> from_x = {x, work.input_stride, weights + call.layout.offset[0], input_size},
                         from_h = {recurrent_operand(), work.hidden_stride, weights + call.layout.offset[1],
                                   state_size};
        Tile<T> tile = {&from_x, 1, call.layout.width[0], nullptr, 0, work.tile + p * columns + input.begin * units,
                        width};
        multiply_rows(tile, r0, m, groups.size(g), vectors(input));
        tile.segments = &from_h;
        tile.b_row = call.layout.width[1];
        tile.out = work.hidden + p * columns + recurrent.begin * units;
        multiply_rows(tile, r0, m, groups.size(g), vectors(recurrent));
      }
      for (ptrdiff_t r = r0; r < r0 + m; ++r)
        normalise_gates(r, work.tile + (r - r0) * width, work.hidden + (r - r0) * width);
      if (m > 1)
        for (ptrdiff_t p = 0; p < panels; ++p) epilogue<0>(p, r0, m, false, work.tile + p * columns, width);
      else
        epilogue<0>(0, r0, panels, true, work.tile, columns);
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
      const T* bias = call.weights + p * call.layout.panel;
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

  // h = o tanh(gain norm(c) + bias), where the equations have left o.
  void normalise_cell(ptrdiff_t r, T* cell) const {
    typedef typename L::Piece U;
    normalise<U>(cell, {panels, units, units, hidden_size, {0, 1}});
    const ptrdiff_t vectors_size = options.vectors.size(call.panels);
    for (ptrdiff_t p = 0; p < panels; ++p) {
      const T* gain = options.unit_weights + p * vectors_size + options.vectors.cell_norm(call.panels);
      for (ptrdiff_t w = 0; w < units; w += lanes<U>()) {
        T* h = work.made + r * work.hidden_stride + p * units + w;
        store(h, load<U>(h) * tanh(fma(load<U>(gain + w), load<U>(cell + p * units + w), load<U>(gain + units + w))));
      }
    }
  }

  void run() {
    if (!run_steps() && barrier) barrier->leave();
  }

  // A single step of a single row needs no copies of its state, if that has no padding and none of it is dropped.
  bool works_in_place() const {
    return !optional && rows == 1 && call.end - call.begin == 1 && active_at(call.begin) == 1 && !call.rows.reset &&
           !barrier && hidden_size == panels * units && call.h0.data && call.hn.data && call.h0.data != call.hn.data &&
           (!kCell.has_cell || call.cn.data);
  }
  bool run_in_place(Poll& poll) {
    step = call.begin;
    active = 1;
    h_in = const_cast<T*>(call.h0.at(batch(0)));  // only dropping the state would write there
    h_out = call.hn.at(batch(0));
    if constexpr (kCell.has_cell) {
      cells = call.cn.at(batch(0));
      copy_row(cells, call.c0.at(batch(0)), hidden_size);
    }
    if (call.y.data) work.y[0] = call.y.at(batch(0), call.direction.time(call.rows, call.first, step));
    return run_stage<0>(poll, input(0, step), work.input_stride, nullptr);
  }

  // False: it was stopped.
  bool run_steps() {
    Poll poll = {call.stop, Poll::kInterval};
    if (works_in_place()) return run_in_place(poll);
    active = call.begin ? active_at(call.begin) : rows;
    h_out = state[call.begin & 1];
    start();
    if (!meet()) return false;
    const T* ahead = nullptr;
    for (step = call.begin; step < call.end; ++step) {
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
      if (work.ahead[0]) {
        if (step == ahead_end) ahead = begin_block();
      } else if (active == 1) {
        x = input(0, step);
      } else {
        for (ptrdiff_t r = 0; r < active; ++r) copy_row(work.x + r * work.input_stride, input(r, step), input_size);
      }
      if constexpr (optional) {
        const ForwardOptions<T> extra = {call, work};
        extra.before(h_in, step, active);
        if (!(options.normalised() ? run_normalised(poll, x) : run_stage<0>(poll, x, work.input_stride, ahead)))
          return false;
        extra.after(h_in, h_out, step, active);
      } else if (!run_stage<0>(poll, x, work.input_stride, ahead)) {
        return false;
      }
      if (ahead) ahead += active * panels * columns;
    }
    finish(0, active, h_out);
    return true;
  }
};

template <class Cell, class T, bool optional>
void forward_of(const ForwardCall<T>& call) {
  if constexpr (has_half_panels(Cell::kInfo))
    if (call.panels.units < kLanes<T>) return Forward<Cell, T, true, optional>{call}.run();
  Forward<Cell, T, false, optional>{call}.run();
}
template <class Cell, class T>
void forward(const ForwardCall<T>& call) {
  call.options.any ? forward_of<Cell, T, true>(call) : forward_of<Cell, T, false>(call);
}

template <class Cell, class T>
ptrdiff_t forward_scratch(const Panels& panels, const CellOptions<T>& options, ptrdiff_t input_size, ptrdiff_t rows,
                          ptrdiff_t steps) {
  return ForwardScratch<T>::plan(Cell::kInfo, panels, options, input_size, rows, steps, false, nullptr).size;
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
