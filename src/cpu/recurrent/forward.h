// The forward of a stack on the CPU: layers one after the other, directions and chunks of rows side by side.
#pragma once
#include <algorithm>

#include "cpu/recurrent/weights.h"

namespace recurra {

// Chunks of rows, so that chunks x directions in flight keep the threads busy.
inline ptrdiff_t most_chunks(ptrdiff_t threads, ptrdiff_t directions, ptrdiff_t rows) {
  return std::max<ptrdiff_t>(1, std::min((threads + directions - 1) / directions, rows));
}

// Rows are shared out first. Where they are too few to fill a tile for every thread, and a step is long enough to wait
// for each other after it, threads share the panels of the same rows instead: each reads only its part of the weights.
constexpr ptrdiff_t kTeamRows = 6, kTeamWork = 32 << 10;  // rows a thread, multiply-adds a step
template <class T>
ptrdiff_t team_size(const Shape<T>& shape, ptrdiff_t threads, ptrdiff_t directions, ptrdiff_t rows) {
  const RecurrentSpec& spec = shape.spec;
  const ptrdiff_t members = std::min((threads + directions - 1) / directions, shape.panels.count);
  const ptrdiff_t work = rows * shape.info.gates * spec.hidden_size * (spec.hidden_size + shape.largest_input());
  return rows < kTeamRows * members && work >= kTeamWork ? members : 1;
}

// What a forward of a shape is made of, whatever it is given: rows in order, shared out to tasks (a direction of a
// chunk of rows; all directions at once or one of them), each with scratch for every member of its team.
template <class T>
struct ForwardPlan {
  const Shape<T> shape;
  const Rows rows;
  std::vector<CellOptions<T>> options;  // [layer, direction], but for the weights
  const ptrdiff_t at_once, members;
  const RowChunks chunks;
  const ptrdiff_t tasks;
  T** scratch;  // [task, member]

  // Teams share the panels of a step; with a hook between steps rows alone are shared out.
  ForwardPlan(const RecurrentSpec& spec, const Batch& batch, const Rows& rows, const Run& run, ptrdiff_t at_once,
              bool teams = true)
      : ForwardPlan(spec, batch, rows, run.threads, run.training, run.seed, run.arena, at_once, teams) {}
  ForwardPlan(const RecurrentSpec& spec, const Batch& batch, const Rows& sorted, int threads, bool training,
              uint64_t seed, Arena& arena, ptrdiff_t directions, bool teams = true)
      : shape{spec},
        rows(sorted),
        at_once(directions),
        // Options look at whole rows of h between two steps, which a team would have to wait for once more.
        members(teams && !spec.has_options(training) ? team_size(shape, threads, at_once, batch.rows) : 1),
        chunks(row_chunks(rows, batch.rows, members > 1 ? 1 : most_chunks(threads, at_once, batch.rows), arena)),
        tasks(chunks.count * at_once),
        scratch(arena.take<T*>(size_t(tasks * members))) {
    for (size_t i = 0; i < size_t(spec.layers * spec.directions); ++i)
      options.push_back(options_of(shape, batch.rows, training, seed, i, threads, arena));
    for (ptrdiff_t i = 0; i < tasks * members; ++i)
      scratch[i] = arena.take<T>(size_t(scratch_size(chunks.size(i / members % chunks.count))));
  }

  ptrdiff_t scratch_size(ptrdiff_t n) const {
    return shape.cell.forward_scratch(shape.panels, options[0], shape.largest_input(), n, rows.steps);
  }

  ptrdiff_t direction(ptrdiff_t task) const { return task / chunks.count; }
  size_t index(ptrdiff_t layer, ptrdiff_t d) const { return size_t(layer * shape.spec.directions + d); }

  // The kernel's call but for weights, x and y.
  ForwardCall<T> call(ptrdiff_t layer, ptrdiff_t d, ptrdiff_t task, StateRows<const T> state,
                      StateRows<T> final_state) const {
    ForwardCall<T> c = {};
    c.panels = shape.panels;
    c.layout = shape.layout(layer);
    c.input_size = shape.input_size(layer);
    c.hidden_size = shape.spec.hidden_size;
    c.options = options[index(layer, d)];
    c.rows = rows;
    c.direction = {d == 1};
    c.first = chunks.bounds[task % chunks.count];
    c.last = chunks.bounds[task % chunks.count + 1];
    c.end = rows.steps;
    c.h0 = shape.h_rows(state, layer, d);
    c.c0 = shape.c_rows(state, layer, d);
    c.hn = shape.h_rows(final_state, layer, d);
    c.cn = shape.c_rows(final_state, layer, d);
    c.scratch = scratch[task * members];
    return c;
  }

  // Runs f(task, team) for all tasks: each by one thread, or by a team of as many as come.
  template <class F>
  void run(int threads, const F& f) const {
    if (members == 1) return for_each_task(tasks, threads, [&](ptrdiff_t task) { f(task, Team{}); });
    SpinBarrier barriers[2];
    for_each_member(int(std::min<ptrdiff_t>(threads, tasks * members)), [&](ptrdiff_t member, ptrdiff_t all) {
      for (ptrdiff_t task = member % tasks; task < tasks; task += all) {
        const ptrdiff_t team = (all - task + tasks - 1) / tasks;  // 0 or 1 where tasks are more than threads
        f(task, team > 1 ? Team{int(member / tasks), int(team), &barriers[task], scratch[task * members]} : Team{});
      }
    });
    note_waiting(barriers[0].waited() + barriers[1].waited());
  }
};

template <class T>
void set_weights(ForwardCall<T>& call, const RecurrentWeights<T>& weights, size_t index) {
  const auto& packed = static_cast<const CpuWeights<T>&>(weights);
  call.weights = packed.forward[index];
  call.options.unit_weights = packed.units[index];
  call.options.projection = packed.projection[index];
}

template <class T>
void set_tape(ForwardCall<T>& call, const SavedValues<T>& values) {
  call.saved = values.saved;
  call.cells = values.cells;
  call.norms = values.norms;
}

template <class T>
void set_team(ForwardCall<T>& call, const ForwardPlan<T>& plan, ptrdiff_t task, const Team& team, const Run& run) {
  call.scratch = plan.scratch[task * plan.members + team.member];
  call.team = team;
  call.stop = run.stop;
}

// Keeps c that enters a stretch, which the final state holds at that moment.
template <class T>
void keep_c(const CpuTape<T>& tape, const Shape<T>& shape, const RecurrentForward<T>& call, ptrdiff_t layer,
            ptrdiff_t stretch) {
  if (!shape.info.has_cell) return;
  for (ptrdiff_t d = 0; d < shape.spec.directions; ++d) {
    const StateRows<T> c = shape.c_rows(call.final_state, layer, d);
    const StateRows<T> kept =
        tape.entering_c(shape, call.batch->rows, size_t(layer * shape.spec.directions + d), stretch);
    for (ptrdiff_t r = 0; r < call.batch->rows; ++r) std::copy_n(c.at(r), shape.spec.hidden_size, kept.at(r));
  }
}

// The steps of a call one by one, its hook between them; the final state holds what passes from one to the next.
// For cells without options, whose masks and norms would have to know the step.
template <class T>
void forward_by_step(const Shape<T>& shape, const ForwardCall<T>& call, StepHook<T>& hook) {
  const Rows& rows = call.rows;
  const int64_t start = 0;
  ForwardCall<T> c = call;
  c.rows.steps = c.end = 0;
  shape.cell.forward(c);  // rows without steps keep their state
  c.rows.steps = c.end = 1;
  c.rows.offset = &start;
  for (ptrdiff_t s = 0; s < rows.steps; ++s) {
    c.last = std::min<ptrdiff_t>(call.last, rows.active[s]);
    if (c.last <= c.first || (call.stop && call.stop->poll())) return;
    c.rows.active = rows.active + s;
    c.steps_before = s;
    c.x.data = call.x.at(0, s);
    c.y.data = call.y.at(0, s);
    if (call.saved) c.saved = call.saved + rows.offset[s] * shape.panels.padded() * shape.info.saved;
    if (call.cells) c.cells = call.cells + rows.offset[s] * shape.panels.padded();
    hook.before_step(c.first, c.last - c.first, s);
    shape.cell.forward(c);
    hook.after_step(c.first, c.last - c.first, s);
    c.h0 = {call.hn.data, call.hn.stride};
    c.c0 = {call.cn.data, call.cn.stride};
  }
}

// The forward of a stack; `tape` null: nothing is kept.
template <class T>
void run_forward(const Run& run, const RecurrentForward<T>& call, CpuTape<T>* tape) {
  const RecurrentSpec& spec = *call.spec;
  const Batch& batch = *call.batch;
  const Rows rows = sort_rows(batch, tape ? *tape->memory : run.arena);
  const ForwardPlan<T> plan(spec, batch, rows, run, spec.directions, !call.hook);
  const Shape<T>& shape = plan.shape;
  if (tape) {
    tape->rows = rows;
    tape->stretches = TapePlan<T>{shape, rows, batch.rows, run.training}.within(call.tape_bytes);
    take_tape(*tape, shape, batch.rows, run.training, *tape->memory);
  }
  const auto room = [&](std::vector<Sequence<T>> CpuTape<T>::*kept, ptrdiff_t layer, ptrdiff_t features) {
    return tape ? (tape->*kept)[size_t(layer)] : take_sequence<T>(run.arena, batch.rows, rows.steps, features);
  };

  Sequence<T> between[2];  // outputs of the layers but the last: where nothing is kept, two take turns
  Sequence<const T> x = call.x;
  for (ptrdiff_t layer = 0; layer < spec.layers; ++layer) {
    const bool last = layer + 1 == spec.layers;
    if (!last && (tape || layer < 2)) between[layer % 2] = room(&CpuTape<T>::between, layer, shape.output_size);
    const Sequence<T> y = last ? call.y : between[layer % 2];
    if (run.training && spec.input_dropout > 0) {
      const ptrdiff_t features = shape.input_size(layer);
      const Sequence<T> masked = room(&CpuTape<T>::masked, layer, features);
      cpu_device<T>().dropout(run, batch, features, spec.input_dropout, kInputMask + uint64_t(layer * spec.directions),
                              true, x, masked);
      x = read_only(masked);
    }
    if (tape) {
      tape->x.push_back(x);
      tape->y.push_back(read_only(y));
    }
    const ptrdiff_t stretches = tape ? tape->stretches.count() : 1;
    for (ptrdiff_t i = 0; i < stretches; ++i) {
      const ptrdiff_t begin = tape ? tape->stretches.begin(i) : 0;
      while (!shape.info.has_cell && i + 2 < stretches) ++i;  // h is in y, there is nothing to keep between them
      const ptrdiff_t end = tape ? tape->stretches.end(i) : rows.steps;
      if (stretches > 1 && begin == end) continue;
      plan.run(run.threads, [&](ptrdiff_t task, const Team& team) {
        const ptrdiff_t d = plan.direction(task);
        const size_t index = plan.index(layer, d);
        ForwardCall<T> c = plan.call(layer, d, task, call.state, call.final_state);
        set_weights(c, *call.weights, index);
        c.begin = begin;
        c.end = end;
        if (begin > 0) c.h0 = read_only(c.hn), c.c0 = read_only(c.cn);
        c.x = x;
        c.y = y;
        if (c.y.data) c.y.data += d * shape.state_size;
        if (tape && i + 1 == stretches) set_tape(c, tape->saved[index]);
        set_team(c, plan, task, team, run);
        if (call.hook) return forward_by_step(shape, c, *call.hook);
        shape.cell.forward(c);
      });
      if (stretches > 1 && run.stop) run.stop->poll();  // a stretch may be too short to
      if (run.stopped()) return;
      if (i + 1 < stretches) keep_c(*tape, shape, call, layer, i + 1);
    }
    x = read_only(y);
    if (!last && run.training && spec.dropout > 0) {
      const Sequence<T> dropped = room(&CpuTape<T>::dropped, layer, shape.output_size);
      cpu_device<T>().dropout(run, batch, shape.output_size, spec.dropout, uint64_t(layer), false, x, dropped);
      x = read_only(dropped);
    }
  }
}

}  // namespace recurra
