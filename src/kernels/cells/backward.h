// The one BPTT loop: a block of steps, last first. The product of the step after's gate gradients with W_hh is the
// gradient of this step's h; the cell's derivative runs on its tile at once. Gate gradients stay in a ring in cache,
// where the input's gradient and, by gradient(), the weights' are taken from them.
#pragma once
#include "kernels/cells/backward_scratch.h"
#include "kernels/cells/forward.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct Backward {
  typedef Lanes<T, paired> L;
  typedef typename L::Piece U;  // never across panels
  typedef Vec<T> V;
  static constexpr CellInfo kCell = Cell::kInfo;
  static constexpr int kLast = kCell.stages - 1;

  const BackwardCall<T>& call;
  const ptrdiff_t units = call.panels.units, columns = call.panels.columns, panels = call.panels.count;
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
  T* gates(ptrdiff_t s, ptrdiff_t p, ptrdiff_t r) const {
    return call.gates + (p * call.ring_rows + position(s, r)) * columns;
  }
  ptrdiff_t tape_row(ptrdiff_t s, ptrdiff_t p, ptrdiff_t r) const {
    return (call.rows.offset[s] - tape_from) * panels + p * call.rows.active[s] + call.first + r;
  }
  ptrdiff_t carried(ptrdiff_t p, ptrdiff_t r) const { return (p * all_rows + call.first + r) * units; }

  // The gate gradients of step s as the left side of a product, in the columns of `range`; `ring` holds them.
  void gate_segments(const T* ring, ptrdiff_t s, Range range, const T* weights, ptrdiff_t width) const {
    for (ptrdiff_t p = 0; p < panels; ++p)
      work.segments[p] = {ring + (p * call.ring_rows + position(s, 0)) * columns + range.begin * units, columns,
                          weights + p * range.count * units * width, range.count * units};
  }

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

  // c of the step before, of the unit at p * units + w and those after it.
  V previous_c(ptrdiff_t p, ptrdiff_t w, ptrdiff_t r, bool pair) const {
    if (work.cut_before[r] || (step == call.tape_begin && !call.c0.data)) return V{};
    if (step > call.tape_begin)
      return L::get(call.cells + tape_row(step - 1, p, r) * units + w, pair * call.rows.active[step - 1] * units);
    const ptrdiff_t u = p * units + w, left = hidden_size - u;
    return L::get(call.c0.at(batch(r)) + u, pair * units, left, left - pair * units);
  }

  // The same of one panel.
  U previous_c(ptrdiff_t p, ptrdiff_t w, ptrdiff_t r) const {
    if (work.cut_before[r] || (step == call.tape_begin && !call.c0.data)) return U{};
    if (step > call.tape_begin) return load<U>(call.cells + tape_row(step - 1, p, r) * units + w);
    return load<U>(call.c0.at(batch(r)) + p * units + w, hidden_size - p * units - w);
  }

  // The cell's derivative on a tile: rows [r0, r0 + m), units [u0, u0 + tile_units). Fresh rows end at this step: what
  // comes to them from later is the caller's gradient of the final state, which the tile then holds.
  template <int stage>
  void epilogue(ptrdiff_t u0, ptrdiff_t tile_units, ptrdiff_t r0, ptrdiff_t m, const T* tile, ptrdiff_t tile_row,
                bool fresh) const {
    constexpr bool last = stage == kLast;
    constexpr ptrdiff_t width = kCell.saved;
    const ptrdiff_t end = u0 + tile_units < call.panels.padded() ? u0 + tile_units : call.panels.padded();
    for (ptrdiff_t u = u0; u < end; u += kLanes<T>) {
      const ptrdiff_t p = u / units, w = u % units, left = hidden_size - u;
      const bool pair = paired && u + units < end;
      // From a panel to the next one.
      const ptrdiff_t u_next = pair * units, carry_next = pair * all_rows * units, left_next = left - u_next,
                      tape_next = pair * call.rows.active[step] * units, gates_next = pair * call.ring_rows * columns;
      T* carry = call.carry + carried(p, r0) + w;
      T* dc = call.dc + carried(p, r0) + w;
      const ptrdiff_t on_tape = tape_row(step, p, r0) * units;
      const T* saved = call.saved + on_tape * width + w;
      T* out = gates(step, p, r0) + w;
      for (ptrdiff_t i = 0; i < m; ++i) {
        const ptrdiff_t r = r0 + i;
        const bool cut = last && !fresh && work.cut[r];
        typename GradientOf<V, optional>::type d;
        d.dh = L::get(tile + i * tile_row + (u - u0), u_next);
        d.dc = d.carry = V{};
        if constexpr (optional && !last) {
          if (options.recurrent_mask) d.dh = d.dh * load<V>(options.recurrent_mask + batch(r) * options.mask_row + u);
          d.carry = L::get(carry, carry_next);
        } else if constexpr (optional) {
          if constexpr (kCell.has_cell) set_options(d, p, r, w, pair);
        } else if constexpr (last) {
          if (cut) d.dh = V{};
          if (call.dy.data) d.dh = d.dh + L::get(work.dy[r] + u, u_next, left, left_next);
          if constexpr (Cell::kCarries)
            if (!fresh && !cut) d.dh = d.dh + L::get(carry, carry_next);
        } else {
          d.carry = L::get(carry, carry_next);
        }
        if constexpr (kCell.has_cell) {
          if (fresh)
            d.dc = call.dcn.data ? L::get(call.dcn.at(batch(r)) + u, u_next, left, left_next) : V{};
          else if (!cut)
            d.dc = L::get(dc, carry_next);
          d.c = L::get(call.cells + on_tape + i * units + w, tape_next);
          d.c_previous = previous_c(p, w, r, pair);
        }
        if constexpr (Cell::kUsesPrevious) d.h_previous = L::get(work.h_previous[r] + u, u_next, left, left_next);
        for (int k = 0; k < width; ++k) d.saved[k] = L::get(saved + k * units, tape_next * width);
        if constexpr (kCell.stages > 1)
          for (int g = 0; g < kCell.groups; ++g) d.pre[g] = last ? V{} : L::get(out + g * units, gates_next);
        Cell::template backward<stage>(d);
        for (int g = 0; g < kCell.groups; ++g) L::put(out + g * units, gates_next, d.pre[g]);
        if constexpr (optional && kCell.has_cell) keep_options(d, p, r, w, pair);
        if constexpr (Cell::kCarries) L::put(carry, carry_next, d.carry);
        if constexpr (kCell.has_cell) L::put(dc, carry_next, d.dc);
        if constexpr (!last) {
          if constexpr (optional)
            if (options.recurrent_mask)
              d.operand = d.operand * load<V>(options.recurrent_mask + batch(r) * options.mask_row + u);
          store(work.operand + r * work.stride + u, d.operand);
        }
        carry += units, dc += units, saved += width * units, out += columns;
      }
    }
  }

  // Of the options, what c's equations take, and what they leave.
  template <class D>
  void set_options(D& d, ptrdiff_t p, ptrdiff_t r, ptrdiff_t w, bool pair) const {
    const ptrdiff_t size = options.vectors.size(call.panels), u = p * units + w;
    for (int i = 0; i < 3; ++i)
      d.peephole[i] =
          options.vectors.peepholes ? L::get(options.unit_weights + p * size + i * units + w, pair * size) : V{};
    d.limit = broadcast<V>(options.clip);
    d.zone = options.zone_c.random ? L::get(work.zone + r * call.panels.padded() + u, pair * units)
                                   : broadcast<V>(options.zone_c.rate);
    d.normalised = options.normalised();
    if (d.normalised) d.of_norm = L::get(work.of_norm + r * work.stride + u, pair * units);
  }
  template <class D>
  void keep_options(const D& d, ptrdiff_t p, ptrdiff_t r, ptrdiff_t w, bool pair) const {
    const ptrdiff_t size = options.vectors.gradient_size(call.panels);
    for (int i = 0; options.vectors.peepholes && i < 3; ++i) {
      T* to = unit_sums(p, r) + i * units + w;
      const ptrdiff_t next = pair * call.unit_rows * size;
      L::put(to, next, begins_group(r) ? d.of_peephole[i] : L::get(to, next) + d.of_peephole[i]);
    }
    if (options.projected && !d.normalised)
      L::put(work.operand + r * work.stride + p * units + w, pair * units, d.projected);
  }
  T* unit_sums(ptrdiff_t p, ptrdiff_t r) const {
    const ptrdiff_t row = call.unit_slot[step] + (call.first + r) / options.group;
    return call.unit_sums + (p * call.unit_rows + row) * options.vectors.gradient_size(call.panels);
  }
  bool begins_group(ptrdiff_t r) const { return (call.first + r) % options.group == 0; }
  void add_sum(T* to, ptrdiff_t r, U v) const { store(to, begins_group(r) ? v : load<U>(to) + v); }

  // The gradient of h, row by row, back through zoneout, projection and the cell's norm to the equations.
  void optional_state_gradient(ptrdiff_t running, ptrdiff_t active) const {
    state_gradient(step, running, active,
                   [&](ptrdiff_t u0, ptrdiff_t tile_units, ptrdiff_t r0, int m, const T* tile, bool fresh) {
                     for (ptrdiff_t r = r0; r < r0 + m; ++r)
                       for (ptrdiff_t u = u0; u < u0 + tile_units && u < work.stride; u += lanes<U>()) {
                         U d = of_state(tile + (r - r0) * tile_units + (u - u0), r, u, fresh);
                         if (call.dy.data) d = d + load<U>(work.dy[r] + u, state_size - u);
                         store(work.dh + r * work.stride + u, d);
                       }
                   });
    for (ptrdiff_t r = 0; r < active; ++r) {
      const ptrdiff_t time = call.direction.time(call.rows, call.first + r, step);
      if (call.gradient_norms.data)
        *call.gradient_norms.at(batch(r), time) = norm_of(work.dh + r * work.stride, state_size);
      if (options.zone_h.rate > 0) zone_back(r, time);
      if (options.zone_c.random)
        zone_row(options.zone_c, batch(r), time, work.zone + r * call.panels.padded(), call.panels.padded());
    }
    T* made = work.dh;
    if (options.projected) {
      T* ring = call.projected + position(step, 0) * call.projected_row;
      for (ptrdiff_t r = 0; r < active; ++r)
        copy_row(ring + r * call.projected_row, work.dh + r * work.stride, state_size);
      made = work.made;
      product(ProductCall<T>{active, state_size, hidden_size, work.dh, work.stride, options.projection, nullptr, made,
                             work.stride});
    }
    if constexpr (kCell.has_cell)
      for (ptrdiff_t r = 0; options.normalised() && r < active; ++r) normalise_cell_back(r, made + r * work.stride);
    const ptrdiff_t padded = call.panels.padded();
    epilogue<kLast>(0, padded, 0, running, made, work.stride, false);
    epilogue<kLast>(0, padded, running, active - running, made + running * work.stride, work.stride, true);
  }

  // What stayed goes past the step; the rest is the gradient of what the step made.
  void zone_back(ptrdiff_t r, ptrdiff_t time) const {
    T* zone = work.zone + rows * call.panels.padded();
    if (options.zone_h.random) zone_row(options.zone_h, batch(r), time, zone, state_size);
    T* d = work.dh + r * work.stride;
    T* carry = call.zone_carry + (call.first + r) * call.projected_row;
    for (ptrdiff_t u = 0; u < state_size; u += kLanes<T>) {
      const ptrdiff_t n = state_size - u;
      const V whole = load<V>(d + u);
      const V past = whole * (options.zone_h.random ? load<V>(zone + u, n) : broadcast<V>(options.zone_h.rate));
      store(carry + u, past);
      store(d + u, whole - past);
    }
  }

  // From the gradient of h = o tanh(gain norm(c) + bias), in `dh`, to those of o, in its place, and of c, in of_norm.
  void normalise_cell_back(ptrdiff_t r, T* dh) const {
    const NormColumns where = {panels, units, units, hidden_size, {0, 1}};
    const ptrdiff_t size = options.vectors.size(call.panels), norm_at = options.vectors.cell_norm(call.panels);
    const U limit = broadcast<U>(options.clip);
    T* of_norm = work.of_norm + r * work.stride;
    const auto saved = [&](ptrdiff_t p, ptrdiff_t w, int k) {
      return load<U>(call.saved + (tape_row(step, p, r) * kCell.saved + k) * units + w);
    };
    const auto for_units = [&](const auto& f) {
      for (ptrdiff_t p = 0; p < panels; ++p)
        for (ptrdiff_t w = 0; w < units; w += lanes<U>()) f(p, w, p * units + w);
    };
    for_units([&](ptrdiff_t p, ptrdiff_t w, ptrdiff_t u) {
      const U c = fma(saved(p, w, 1), previous_c(p, w, r), saved(p, w, 0) * saved(p, w, 2));
      store(work.norm + u, min(limit, max(-limit, c)));
    });
    const T scale = normalise<U>(work.norm, where).scale;
    NormGradient<U> of_cell;
    for_units([&](ptrdiff_t p, ptrdiff_t w, ptrdiff_t u) {
      const T* gain = options.unit_weights + p * size + norm_at + w;
      T* sums = unit_sums(p, r) + norm_at + w;
      const U norm = load<U>(work.norm + u), o = saved(p, w, 3), d = load<U>(dh + u);
      const U t = tanh(fma(load<U>(gain), norm, load<U>(gain + units)));
      const U dt = d * o * fma(-t, t, one<U>());
      add_sum(sums, r, dt * norm);
      add_sum(sums + units, r, dt);
      of_cell.add(dt * load<U>(gain), norm);
      store(of_norm + u, dt * load<U>(gain));
      store(dh + u, d * t);
      if (options.projected) store(work.operand + r * work.stride + u, o * t);
    });
    of_cell.finish(scale, where.count());
    for_units([&](ptrdiff_t, ptrdiff_t, ptrdiff_t u) {
      store(of_norm + u, of_cell(load<U>(of_norm + u), load<U>(work.norm + u)));
    });
  }

  // From the gradients of the pre-activations, in the ring, to those of the two products, each behind its norm.
  void normalise_gates_back(ptrdiff_t r) const {
    const ptrdiff_t width = panels * columns, size = options.vectors.size(call.panels);
    const ptrdiff_t at = options.vectors.column(call.panels, 0);
    const T* norms = call.norms + (call.rows.offset[step] - tape_from + call.first + r) * norm_row(call.panels);
    NormGradient<U> of_x, of_h;
    const auto for_columns = [&](const auto& f) {
      for (ptrdiff_t p = 0; p < panels; ++p)
        for (int g = 0; g < kCell.groups; ++g)
          for (ptrdiff_t k = g * units; k < (g + 1) * units; k += lanes<U>())
            f(g, gates(step, p, r) + k, options.unit_weights + p * size + at + k, norms + p * columns + k,
              unit_sums(p, r) + at + k);
    };
    for_columns([&](int g, const T* gate, const T* gains, const T* norm, T* sums) {
      const U pre = load<U>(gate);
      if (has(kCell.input, g)) {
        of_x.add(pre * load<U>(gains), load<U>(norm));
        add_sum(sums, r, pre * load<U>(norm));
      }
      if (has(kCell.recurrent[0], g)) {
        of_h.add(pre * load<U>(gains + columns), load<U>(norm + width));
        add_sum(sums + columns, r, pre * load<U>(norm + width));
      }
      add_sum(sums + 2 * columns, r, pre);
    });
    of_x.finish(norms[2 * width], kCell.input.count * hidden_size);
    of_h.finish(norms[2 * width + 1], kCell.recurrent[0].count * hidden_size);
    for_columns([&](int g, T* gate, const T* gains, const T* norm, T*) {
      const U pre = load<U>(gate);
      if (has(kCell.input, g)) store(call.input_gates + (gate - call.gates), of_x(pre * load<U>(gains), load<U>(norm)));
      if (has(kCell.recurrent[0], g)) store(gate, of_h(pre * load<U>(gains + columns), load<U>(norm + width)));
    });
  }

  // Asks for what the epilogue of a tile will read from the tape, which the product before it gives time to arrive.
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
    for (ptrdiff_t j = 0; j < hidden.count(); ++j) {
      const ptrdiff_t from = hidden.begin(j) * lanes, width = hidden.begin(j + 1) * lanes - from;
      const int nv = int(width / lanes);
      gate_segments(call.gates, s, kCell.recurrent[stage], call.hidden_weights[stage] + from * depth, width);
      const Tile<T> tile = {work.segments, panels, width, nullptr, 0, out, width};
      const Split tiles = split(active, max_rows(nv));
      for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
        if (stage == 0 && step >= call.begin) prefetch_tape(from, width, tiles.begin(i), tiles.size(i));
        multiply(tile, tiles.begin(i), tiles.size(i), nv);
        done(from, width, tiles.begin(i), tiles.size(i), out, false);
      }
    }
  }

  // The gradient that reaches the rows' state after step s: from the step after for the `running` rows, from the caller
  // for the rest up to `active`, for which done() is called with true.
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

  template <int stage>
  void earlier_stages(ptrdiff_t active) const {
    if constexpr (stage >= 0) {
      gate_product(step, stage + 1, active,
                   [&](ptrdiff_t u0, ptrdiff_t tile_units, ptrdiff_t r0, int m, const T* tile, bool fresh) {
                     epilogue<stage>(u0, tile_units, r0, m, tile, tile_units, fresh);
                   });
      earlier_stages<stage - 1>(active);
    }
  }

  void pack_operands(ptrdiff_t active) const {
    const ptrdiff_t to = position(step, 0);
    pack_operand(
        call.operands[0], call.ring_rows, to, active, [&](ptrdiff_t r) { return work.x[r]; }, input_size, true,
        vectors(kCell.input));
    if constexpr (optional)
      for (ptrdiff_t r = 0; work.masked && r < active; ++r) {
        multiply_row_by(work.h_previous[r], options.recurrent_mask + batch(r) * options.mask_row,
                        work.masked + r * work.stride, state_size);
        work.h_previous[r] = work.masked + r * work.stride;
      }
    pack_operand(
        call.operands[1], call.ring_rows, to, active, [&](ptrdiff_t r) { return work.h_previous[r]; }, state_size,
        needs_hidden_ones(kCell), vectors(kCell.recurrent[0]));
    if constexpr (optional && kCell.has_cell)
      if (options.projected)
        pack_operand(
            call.operands[2], call.ring_rows, to, active, [&](ptrdiff_t r) { return work.operand + r * work.stride; },
            hidden_size, false, kProjectionVectors);
    if constexpr (kCell.stages > 1)
      pack_operand(
          call.operands[2], call.ring_rows, to, active, [&](ptrdiff_t r) { return work.operand + r * work.stride; },
          hidden_size, false, vectors(kCell.recurrent[1]));
  }

  void input_gradient() const {
    constexpr ptrdiff_t lanes = kLanes<T>;
    alignas(64) T out[kMaxRows * kTileVectors * lanes];
    const ColumnPanels inputs = {(input_size + lanes - 1) / lanes, kTileVectors};
    const ptrdiff_t depth = panels * kCell.input.count * units;
    for (ptrdiff_t j = 0; j < inputs.count(); ++j) {
      const ptrdiff_t from = inputs.begin(j) * lanes, width = inputs.begin(j + 1) * lanes - from;
      const ptrdiff_t n = input_size - from < width ? input_size - from : width;
      const int nv = int(width / lanes);
      const Tile<T> tile = {work.segments, panels, width, nullptr, 0, out, width};
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

  // What is left over after step 0 belongs to the initial state.
  void initial_gradient() const {
    const ptrdiff_t active = active_at(0);
    for (ptrdiff_t r = 0; r < active; ++r) work.cut[r] = call.direction.cut(call.rows, call.first + r, 0);
    state_gradient(-1, active, rows,
                   [&](ptrdiff_t u0, ptrdiff_t tile_units, ptrdiff_t r0, int m, const T* tile, bool fresh) {
                     for (ptrdiff_t r = r0; r < r0 + m; ++r)
                       for (ptrdiff_t u = u0; u < u0 + tile_units && u < state_size; u += lanes<U>())
                         store(call.dh0.at(batch(r)) + u,
                               of_state(tile + (r - r0) * tile_units + (u - u0), r, u, fresh), state_size - u);
                   });
    if constexpr (kCell.has_cell)
      for (ptrdiff_t r = 0; r < rows; ++r)
        for (ptrdiff_t u = 0; u < hidden_size; u += lanes<U>()) {
          const ptrdiff_t left = hidden_size - u;
          U dc = U{};
          if (r >= active && call.dcn.data) dc = load<U>(call.dcn.at(batch(r)) + u, left);
          if (r < active && !work.cut[r]) dc = load<U>(call.dc + carried(u / units, r) + u % units);
          store(call.dc0.at(batch(r)) + u, dc, left);
        }
  }

  // What reaches h, at unit u, from later steps (or, of a fresh row, from the caller): through the product, of which
  // `product` is the result there, and past it.
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

  void run() {
    Poll poll = {call.stop, Poll::kInterval};
    zero_row(work.zeros, call.panels.padded());
    if (optional && work.made) zero_row(work.made, rows * work.stride);  // what pads the units stays zero
    for (step = call.end - 1; step >= call.begin; --step) {
      const ptrdiff_t active = active_at(step);
      if (!active) continue;
      prepare_rows(active);
      if constexpr (optional) {
        optional_state_gradient(active_at(step + 1), active);
      } else {
        state_gradient(step, active_at(step + 1), active,
                       [&](ptrdiff_t u0, ptrdiff_t tile_units, ptrdiff_t r0, int m, const T* tile, bool fresh) {
                         epilogue<kLast>(u0, tile_units, r0, m, tile, tile_units, fresh);
                       });
      }
      earlier_stages<kLast - 1>(active);
      if constexpr (optional)
        for (ptrdiff_t r = 0; options.normalised() && r < active; ++r) normalise_gates_back(r);
      pack_operands(active);
      if (poll.stopped(active * panels * columns * hidden_size)) return;
    }
    if (call.input_weights) input_gradient();
    if (call.begin == 0 && call.dh0.data) initial_gradient();
  }
};

template <class Cell, class T, bool optional>
void backward_of(const BackwardCall<T>& call) {
  if constexpr (has_half_panels(Cell::kInfo))
    if (call.panels.units < kLanes<T>) return Backward<Cell, T, true, optional>{call}.run();
  Backward<Cell, T, false, optional>{call}.run();
}
template <class Cell, class T>
void backward(const BackwardCall<T>& call) {
  call.options.any ? backward_of<Cell, T, true>(call) : backward_of<Cell, T, false>(call);
}

template <class Cell, class T>
ptrdiff_t backward_scratch(const Panels& panels, const CellOptions<T>& options, ptrdiff_t rows) {
  return BackwardScratch<T>::plan(Cell::kInfo, panels, options, rows, nullptr).size;
}

template <class T>
void gradient(const GradientCall<T>& call) {
  const int nv = int(call.width / kLanes<T>);
  const Split tiles = split(call.rows, max_rows(nv));
  for (ptrdiff_t i = call.first; i < call.last; ++i) {
    Segment<T> runs[3];
    for (ptrdiff_t n = 0; n < call.run_count; ++n) {
      const RingRun& run = call.runs[n];
      runs[n] = {call.operand + tiles.begin(i) * call.ring_rows + run.begin * tiles.size(i), tiles.size(i),
                 call.gates + run.begin * call.gates_row, run.count};
    }
    const Tile<T> tile = {runs,      call.run_count, call.gates_row, nullptr, 0, call.out + tiles.begin(i) * call.width,
                          call.width};
    add(tile, 0, tiles.size(i), nv);
  }
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
