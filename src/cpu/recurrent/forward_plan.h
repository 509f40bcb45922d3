// How the forward of a stack is shared out among threads: by chunks of rows, by directions, and in teams.
#pragma once
#include <algorithm>

#include "cpu/recurrent/weights.h"

namespace recurra {

// The number of chunks of rows that, times the directions in flight, keeps all threads busy.
inline ptrdiff_t most_chunks(ptrdiff_t threads, ptrdiff_t directions, ptrdiff_t rows) {
  return std::max<ptrdiff_t>(1, std::min((threads + directions - 1) / directions, rows));
}

// Threads share the rows if there are enough to fill a tile for each. If not, and if a step is long enough to be worth
// a barrier, they share the panels of the same rows instead: each thread reads only its part of the weights.
constexpr ptrdiff_t kTeamRows = 6, kTeamWork = 32 << 10;  // rows a thread, multiply-adds a step
template <class T>
ptrdiff_t team_size(const Shape<T>& shape, ptrdiff_t threads, ptrdiff_t directions, ptrdiff_t rows) {
  const RecurrentSpec& spec = shape.spec;
  const ptrdiff_t members = std::min((threads + directions - 1) / directions, shape.panels.count);
  const ptrdiff_t work = rows * shape.info.gates * spec.hidden_size * (spec.hidden_size + shape.largest_input());
  return rows < kTeamRows * members && work >= kTeamWork ? members : 1;
}

// All of a forward that follows from the shape of the stack and the batch: sorted rows, shared out to tasks (one
// direction of one chunk of rows; all directions at once or one of them), each with scratch for every team member.
template <class T>
struct ForwardPlan {
  const Shape<T> shape;
  const Rows rows;
  std::vector<CellOptions<T>> options;  // [layer, direction], without the weights
  const ptrdiff_t at_once, members;
  const RowChunks chunks;
  const ptrdiff_t tasks;
  const Caches sizes = caches();  // one answer for a plan and its calls
  T** scratch;                    // [task, member]

  // `teams`: whether threads may share the panels of a step, which a hook between steps rules out.
  ForwardPlan(const RecurrentSpec& spec, const Batch& batch, const Rows& rows, const Run& run, ptrdiff_t at_once,
              bool teams = true)
      : ForwardPlan(spec, batch, rows, run.threads, run.training, run.random, run.arena, at_once, teams) {}
  ForwardPlan(const RecurrentSpec& spec, const Batch& batch, const Rows& sorted, int threads, bool training,
              const RandomRows& random, Arena& arena, ptrdiff_t directions, bool teams = true)
      : shape{spec},
        rows(sorted),
        at_once(directions),
        // Options read whole rows of h between steps, which would cost a team another barrier; the common loops of
        // cells have none.
        members(teams && !spec.has_options(training) && !(shape.info.scanned && shape.info.stages)
                    ? team_size(shape, threads, at_once, batch.rows)
                    : 1),
        chunks(row_chunks(rows, batch.rows, members > 1 ? 1 : most_chunks(threads, at_once, batch.rows), arena)),
        tasks(chunks.count * at_once),
        scratch(arena.take<T*>(size_t(tasks * members))) {
    for (size_t i = 0; i < size_t(spec.layers * spec.directions); ++i)
      options.push_back(options_of(shape, batch.rows, training, random, i, threads, arena));
    for (ptrdiff_t i = 0; i < tasks * members; ++i)
      scratch[i] = arena.take<T>(size_t(scratch_size(chunks.size(i / members % chunks.count))));
  }

  ptrdiff_t scratch_size(ptrdiff_t n) const {
    return shape.cell.forward_scratch(shape.info, shape.panels, options[0], shape.largest_input(), n, rows.steps,
                                      sizes);
  }

  ptrdiff_t direction(ptrdiff_t task) const { return task / chunks.count; }
  size_t index(ptrdiff_t layer, ptrdiff_t d) const { return size_t(layer * shape.spec.directions + d); }

  // The kernel's call without weights, x and y.
  ForwardCall<T> call(ptrdiff_t layer, ptrdiff_t d, ptrdiff_t task, StateRows<const T> state,
                      StateRows<T> final_state) const {
    ForwardCall<T> c = {};
    c.cell = &shape.cell;
    c.panels = shape.panels;
    c.input_size = shape.input_size(layer);
    c.hidden_size = shape.spec.hidden_size;
    c.options = options[index(layer, d)];
    c.rows = rows;
    c.caches = sizes;
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
        const ptrdiff_t team = (all - task + tasks - 1) / tasks;  // 0 or 1 if there are more tasks than threads
        f(task, team > 1 ? Team{int(member / tasks), int(team), &barriers[task], scratch[task * members]} : Team{});
      }
    });
    note_waiting(barriers[0].waited() + barriers[1].waited());
  }
};

template <class T>
void set_weights(ForwardCall<T>& call, const RecurrentWeights<T>& weights, size_t index) {
  const auto& packed = static_cast<const CpuWeights<T>&>(weights);
  call.weights = &packed.forward[index];
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

}  // namespace recurra
