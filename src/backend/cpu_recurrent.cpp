#include "backend/cpu_recurrent.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu_options.h"
#include "backend/cpu_tape.h"
#include "platform/tasks.h"

namespace recurra {
namespace {

template <class T>
struct CpuWeights : RecurrentWeights<T> {
  std::vector<const T*> forward;            // [layer, direction]
  std::vector<const T*> hidden[2], input;   // transposed
  std::vector<const T*> units, projection;  // of options, or null
};

// Chunks of rows, so that chunks x directions in flight keep the threads busy.
ptrdiff_t chunk_count(ptrdiff_t threads, ptrdiff_t directions, ptrdiff_t rows) {
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
  const ptrdiff_t at_once, members, chunks, tasks;
  const ptrdiff_t* bounds;
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
        chunks(members > 1 ? 1 : chunk_count(threads, at_once, batch.rows)),
        tasks(chunks * at_once),
        bounds(row_chunks(rows, batch.rows, chunks, arena)),
        scratch(arena.take<T*>(size_t(tasks * members))) {
    for (size_t i = 0; i < size_t(spec.layers * spec.directions); ++i)
      options.push_back(options_of(shape, batch.rows, training, seed, i, threads, arena));
    for (ptrdiff_t i = 0; i < tasks * members; ++i) {
      const ptrdiff_t chunk = i / members % chunks, n = bounds[chunk + 1] - bounds[chunk];
      scratch[i] = arena.take<T>(size_t(scratch_size(n)));
    }
  }

  ptrdiff_t scratch_size(ptrdiff_t n) const {
    return shape.cell.forward_scratch(shape.panels, options[0], shape.largest_input(), n, rows.steps);
  }

  ptrdiff_t direction(ptrdiff_t task) const { return task / chunks; }
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
    c.first = bounds[task % chunks];
    c.last = bounds[task % chunks + 1];
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
      cpu_backend<T>().dropout(run, batch, features, spec.input_dropout, kInputMask + uint64_t(layer * spec.directions),
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
      cpu_backend<T>().dropout(run, batch, shape.output_size, spec.dropout, uint64_t(layer), false, x, dropped);
      x = read_only(dropped);
    }
  }
}

template <class T>
class CpuStep final : public RecurrentStep<T> {
 public:
  CpuStep(const RecurrentSpec& spec, ptrdiff_t rows, const TwoStates<T>& states) : spec_(spec), plan_(make_plan(rows)) {
    for (int from : {0, 1}) {
      const StateRows<const T> state = {states[size_t(from)].data, states[size_t(from)].stride};
      for (ptrdiff_t layer = 0; layer < spec.layers; ++layer)
        for (ptrdiff_t task = 0; task < plan_.tasks; ++task) {
          calls_[from].push_back(plan_.call(layer, plan_.direction(task), task, state, states[size_t(1 - from)]));
          ForwardCall<T>& c = calls_[from].back();
          c.steps_before = from;
          // Of its own, where its plan can stay; one for either state.
          c.scratch = from ? calls_[0][calls_[1].size() - 1].scratch
                           : memory_.template take<T>(size_t(plan_.scratch_size(rows)));
        }
    }
    if (spec.layers > 1)
      for (T*& y : between_) y = memory_.template take<T>(size_t(rows * plan_.shape.output_size));
  }

  void run(const RecurrentWeights<T>& weights, const StepCall<T>& call) override {
    const T* x = call.x;
    ptrdiff_t x_row = call.x_row;
    size_t index = 0;
    for (ptrdiff_t layer = 0; layer < spec_.layers; ++layer) {
      const bool last = layer + 1 == spec_.layers;
      T* y = last ? call.y : between_[layer % 2];
      const ptrdiff_t y_row = last ? call.y_row : plan_.shape.output_size;
      for (ptrdiff_t d = 0; d < spec_.directions; ++d, ++index) {
        ForwardCall<T>& c = calls_[call.from][index];
        set_weights(c, weights, index);
        c.x.data = x;
        c.x.row_stride = x_row;
        c.y.data = y ? y + d * plan_.shape.state_size : nullptr;
        c.y.row_stride = y_row;
        c.rows.reset = call.reset;
        c.rows.reset_row = call.reset_row;
        plan_.shape.cell.forward(c);
        c.planned = true;
      }
      x = y;
      x_row = y_row;
    }
  }

 private:
  ForwardPlan<T> make_plan(ptrdiff_t rows) {
    const Batch batch = {rows, 1, nullptr, nullptr, 0, 0};
    return {spec_, batch, sort_rows(batch, memory_), 1, false, 0, memory_, spec_.directions};
  }

  const RecurrentSpec spec_;
  Arena memory_;
  const ForwardPlan<T> plan_;
  std::vector<ForwardCall<T>> calls_[2];  // from either state: [layer, direction]
  T* between_[2];                         // outputs of the layers but the last
};

// Brings a backward to a stretch of its tape: from its values as recorded, or made again.
template <class T>
class StretchReader {
 public:
  StretchReader(const Run& run, const RecurrentBackward<T>& call, const CpuTape<T>& tape)
      : run_(run), call_(call), tape_(tape) {
    if (tape.stretches.count() == 1) return;
    plan_ = std::make_unique<ForwardPlan<T>>(*call.spec, *call.batch, tape.rows, run, 1);
    for (T*& h : state_) h = run.arena.take<T>(size_t(call.batch->rows * call.spec->state_size()));
  }

  // Sets what `c` reads of stretch i.
  void enter(ptrdiff_t layer, ptrdiff_t i, BackwardCall<T>& c) const {
    const Shape<T> shape = {*call_.spec};
    const ptrdiff_t d = c.direction.reverse, H = shape.state_size;
    const size_t index = size_t(layer * shape.spec.directions + d);
    c.tape_begin = tape_.stretches.begin(i);
    if (i == 0) {
      c.h0 = shape.h_rows(call_.state, layer, d);
      c.c0 = shape.c_rows(call_.state, layer, d);
    } else {
      for (ptrdiff_t r = 0; c.tape_begin < c.rows.steps && r < c.rows.active[c.tape_begin]; ++r) {
        const ptrdiff_t row = c.rows.batch[r];
        std::copy_n(c.h.at(row, c.direction.time(c.rows, r, c.tape_begin - 1)), H, state_[0] + row * H);
      }
      c.h0 = {state_[0], H};
      if (shape.info.has_cell) c.c0 = read_only(tape_.entering_c(shape, call_.batch->rows, index, i));
    }
    const bool recorded = tape_.stretches.recorded(i);
    const SavedValues<T>& values = recorded ? tape_.saved[index] : tape_.again;
    c.saved = values.saved;
    c.cells = values.cells;
    c.norms = values.norms;
    if (!recorded) make_again(layer, d, i, c);
  }

 private:
  void make_again(ptrdiff_t layer, ptrdiff_t d, ptrdiff_t i, const BackwardCall<T>& of) const {
    const size_t index = plan_->index(layer, d);
    plan_->run(run_.threads, [&](ptrdiff_t task, const Team& team) {
      ForwardCall<T> c = plan_->call(layer, d, task, {}, {});
      set_weights(c, *call_.forward_weights, index);
      c.begin = tape_.stretches.begin(i);
      c.end = tape_.stretches.end(i);
      c.h0 = of.h0;
      c.c0 = of.c0;
      c.hn = {state_[1], call_.spec->state_size()};
      c.x = of.x;
      set_tape(c, tape_.again);
      set_team(c, *plan_, task, team, run_);
      plan_->shape.cell.forward(c);
    });
  }

  const Run& run_;
  const RecurrentBackward<T>& call_;
  const CpuTape<T>& tape_;
  std::unique_ptr<ForwardPlan<T>> plan_;
  T* state_[2] = {};  // [row][state]: h that enters a stretch, and where the one that leaves it goes
};

// One layer and direction backwards: by blocks of steps, first the rows' chunks side by side, then the weights' panels.
template <class T>
struct DirectionBackward {
  const Shape<T>& shape;
  const Run& run;
  const Blocks& blocks;
  ptrdiff_t chunks;
  const ptrdiff_t* bounds;
  ptrdiff_t layer;
  BackwardCall<T> call;  // but for the chunk and the block
  T *gradient, *unit_gradient, *projection_gradient;
  const T* ones;  // [unit row]
  StepHook<T>* hook;

  void run_blocks(const Stretches& stretches, const StretchReader<T>& reader) {
    T** scratch = run.arena.template take<T*>(size_t(chunks));
    for (ptrdiff_t i = 0; i < chunks; ++i)
      scratch[i] = run.arena.template take<T>(
          size_t(shape.cell.backward_scratch(shape.panels, call.options, bounds[i + 1] - bounds[i])));
    ptrdiff_t stretch = stretches.count();
    for (const Block& block : blocks.blocks) {
      ptrdiff_t i = std::min(stretch, stretches.count() - 1);
      while (i > 0 && block.end <= stretches.begin(i)) --i;
      if (i < stretch) reader.enter(layer, i, call);
      stretch = i;
      if (run.stopped()) return;
      for_each_task(chunks, run.threads, [&](ptrdiff_t chunk) {
        BackwardCall<T> c = call;
        c.begin = block.begin;
        c.end = block.end;
        c.first = bounds[chunk];
        c.last = bounds[chunk + 1];
        c.scratch = scratch[chunk];
        if (hook && block.end > block.begin) return backward_by_step(c);
        shape.cell.backward(c);
      });
      if (run.stop) run.stop->poll();  // the loop may be too short to
      if (run.stopped()) return;
      add_block(block);
    }
  }

  // A block's steps one by one, the hook between them.
  void backward_by_step(const BackwardCall<T>& block) const {
    BackwardCall<T> c = block;
    for (c.begin = block.end - 1; c.begin >= block.begin; --c.begin) {
      if (run.stop && run.stop->poll()) return;
      c.end = c.begin + 1;
      const ptrdiff_t active = std::min<ptrdiff_t>(c.last, c.rows.active[c.begin]) - c.first;
      if (active > 0) hook->before_step(c.first, active, c.begin);
      shape.cell.backward(c);
      if (active > 0) hook->after_step(c.first, active, c.begin);
    }
  }

  void add_block(const Block& block) const {
    const PackedLayout layout = shape.gradient_layout(layer);
    const ptrdiff_t parts = shape.info.stages + 1, panels = shape.panels.count;
    const ptrdiff_t pieces = std::max<ptrdiff_t>(1, 4 * (run.threads - 1) / (parts * panels) + 1);
    for_each_task(parts * panels * pieces, run.threads, [&](ptrdiff_t task) {
      const ptrdiff_t piece = task % pieces, panel = task / pieces / parts;
      const int part = int(task / pieces % parts);
      const Range range = part ? shape.info.recurrent[part - 1] : shape.info.input;
      const ptrdiff_t tiles = kernels<T>().operand_tiles(layout.rows[part], layout.width[part]);
      const T* gates = part == 0 && spec().layer_norm ? call.input_gates : call.gates;
      GradientCall<T> c = gradient_call(block, call.operands[part], layout.rows[part]);
      c.gates = gates + panel * call.ring_rows * shape.panels.columns + range.begin * shape.panels.units;
      c.gates_row = shape.panels.columns;
      c.width = layout.width[part];
      c.first = tiles * piece / pieces;
      c.last = tiles * (piece + 1) / pieces;
      c.out = gradient + panel * layout.panel + layout.offset[part];
      kernels<T>().gradient(c);
    });
    add_options(block);
  }

  const RecurrentSpec& spec() const { return shape.spec; }
  GradientCall<T> gradient_call(const Block& block, const T* operand, ptrdiff_t rows) const {
    GradientCall<T> c = {};
    c.operand = operand;
    c.ring_rows = call.ring_rows;
    c.runs = block.runs.data();
    c.run_count = ptrdiff_t(block.runs.size());
    c.rows = rows;
    return c;
  }

  void add_options(const Block& block) const {
    const ptrdiff_t size = shape.vectors.gradient_size(shape.panels), width = shape.projection_width();
    const RingRun groups = {0, block.groups};
    if (unit_gradient)  // a column's sum is its product with ones
      for_each_task(shape.panels.count, run.threads, [&](ptrdiff_t panel) {
        GradientCall<T> c = gradient_call(block, ones, 1);
        c.runs = &groups;
        c.run_count = 1;
        c.gates_row = size;
        c.last = 1;
        for (ptrdiff_t k = 0; k < size; k += c.width) {
          c.width = std::min(4 * shape.lanes, size - k);
          c.gates = call.unit_sums + panel * call.unit_rows * size + k;
          c.out = unit_gradient + panel * size + k;
          kernels<T>().gradient(c);
        }
      });
    if (projection_gradient)
      for_each_task(shape.projection_panels(), run.threads, [&](ptrdiff_t panel) {
        GradientCall<T> c = gradient_call(block, call.operands[2], spec().hidden_size);
        c.gates = call.projected + panel * width;
        c.gates_row = call.projected_row;
        c.width = width;
        c.last = kernels<T>().operand_tiles(spec().hidden_size, width);
        c.out = projection_gradient + panel * spec().hidden_size * width;
        kernels<T>().gradient(c);
      });
  }
};

}  // namespace

template <class T>
std::unique_ptr<RecurrentWeights<T>> CpuRecurrent<T>::pack(const RecurrentSpec& spec, const Offsets& offsets,
                                                           const T* parameters, bool transposed, int threads,
                                                           Arena memory) {
  const Shape<T> shape = {spec};
  auto packed = std::make_unique<CpuWeights<T>>();
  packed->memory = std::move(memory);
  for (size_t i = 0; i < offsets.size(); ++i) {
    const ptrdiff_t layer = ptrdiff_t(i) / spec.directions, inputs = shape.input_size(layer), H = spec.hidden_size;
    const T* weight_ih = parameters + offsets[i].weight_ih;
    const T* weight_hh = parameters + offsets[i].weight_hh;
    packed->units.push_back(pack_unit_weights(shape, offsets[i], parameters, packed->memory));
    packed->projection.push_back(nullptr);
    if (spec.proj_size) {  // y = W_hr m, or transposed dm = dy W_hr
      const ptrdiff_t k = transposed ? shape.state_size : H, columns = transposed ? H : shape.state_size;
      T* projection = packed->memory.template take<T>(size_t(cpu_backend<T>().packed_size(k, columns)));
      cpu_backend<T>().pack_matrix(parameters + offsets[i].weight_hr, k, columns, !transposed, projection);
      packed->projection.back() = projection;
    }
    if (transposed) {
      T* input = packed->memory.template take<T>(size_t(shape.part_size(0) * shape.input_vectors(layer) * shape.lanes));
      packed->input.push_back(input);
      T* hidden[2] = {};
      for (int stage = 0; stage < shape.info.stages; ++stage) {
        hidden[stage] =
            packed->memory.template take<T>(size_t(shape.part_size(1 + stage) * shape.hidden_vectors() * shape.lanes));
        packed->hidden[stage].push_back(hidden[stage]);
      }
      for_each_task(shape.panels.count, threads, [&](ptrdiff_t panel) {
        pack_transposed(shape.info, shape.panels, H, 0, weight_ih, inputs, shape.lanes,
                        shape.columns(shape.input_vectors(layer)), panel, input);
        for (int stage = 0; stage < shape.info.stages; ++stage)
          pack_transposed(shape.info, shape.panels, H, 1 + stage, weight_hh, shape.state_size, shape.lanes,
                          shape.columns(shape.hidden_vectors()), panel, hidden[stage]);
      });
      continue;
    }
    const PackedLayout layout = shape.layout(layer);
    T* forward = packed->memory.template take<T>(size_t(layout.panel * shape.panels.count));
    packed->forward.push_back(forward);
    for_each_task(shape.panels.count, threads, [&](ptrdiff_t panel) {
      T* bias = forward + panel * layout.panel;
      const bool whole = (panel + 1) * shape.panels.units <= H;
      std::fill_n(bias, whole ? shape.panels.columns : layout.panel, T(0));
      for (int part = 0; part <= shape.info.stages; ++part)
        for_weights(shape.info, shape.panels, layout, H, panel, part, part ? shape.state_size : inputs, forward,
                    part ? weight_hh : weight_ih,
                    [](T* to, ptrdiff_t to_stride, const T* from, ptrdiff_t from_stride, ptrdiff_t units, ptrdiff_t n) {
                      transpose<false>(to, to_stride, from, from_stride, units, n);
                    });
      for (bool hidden : {false, true})
        if (spec.bias)
          for_biases(shape.info, shape.panels, H, panel, hidden,
                     parameters + (hidden ? offsets[i].bias_hh : offsets[i].bias_ih),
                     [&](int g, ptrdiff_t w, T value) { bias[g * shape.panels.units + w] += value; });
    });
  }
  return packed;
}

template <class T>
void CpuRecurrent<T>::forward(const Run& run, const RecurrentForward<T>& call) {
  run_forward<T>(run, call, nullptr);
}

template <class T>
std::unique_ptr<RecurrentStep<T>> CpuRecurrent<T>::prepare_step(const RecurrentSpec& spec, ptrdiff_t rows,
                                                                const TwoStates<T>& states) {
  return std::make_unique<CpuStep<T>>(spec, rows, states);
}

template <class T>
std::unique_ptr<RecurrentTape<T>> CpuRecurrent<T>::record(const Run& run, const RecurrentForward<T>& call,
                                                          Arena& memory) {
  auto tape = std::make_unique<CpuTape<T>>();
  tape->memory = &memory;
  run_forward(run, call, tape.get());
  return tape;
}

template <class T>
void CpuRecurrent<T>::backward(const Run& run, const RecurrentBackward<T>& call, RecurrentTape<T>& any_tape) {
  auto& tape = static_cast<CpuTape<T>&>(any_tape);
  const Shape<T> shape = {*call.spec};
  const RecurrentSpec& spec = *call.spec;
  const auto& weights = static_cast<const CpuWeights<T>&>(*call.weights);
  const Rows& rows = tape.rows;
  const ptrdiff_t group = unit_group(call.batch->rows);
  const Blocks blocks = blocks_of(shape, rows, call.batch->rows);
  const ptrdiff_t widest = rows.steps ? rows.active[0] : 0;
  const ptrdiff_t chunks = chunk_count(run.threads, 1, call.batch->rows);
  const bool has_vectors = shape.vectors.gradient_size(shape.panels) > 0;
  const ptrdiff_t* bounds = row_chunks(rows, call.batch->rows, chunks, run.arena, has_vectors ? group : 1);

  BackwardCall<T> c = {};
  c.panels = shape.panels;
  c.hidden_size = spec.hidden_size;
  c.rows = rows;
  c.slot = blocks.slot.data();
  c.ring_rows = blocks.ring_rows;
  c.stop = run.stop;
  const ptrdiff_t state = shape.panels.padded() * widest;
  c.carry = run.arena.take<T>(size_t(state));
  c.dc = shape.info.has_cell ? run.arena.take<T>(size_t(state)) : nullptr;
  c.gates = run.arena.take<T>(size_t(c.ring_rows * shape.panels.count * shape.panels.columns));
  const ptrdiff_t depths[3] = {shape.largest_input() + 1, shape.state_size + 1, spec.hidden_size};
  for (int part = 0; part <= shape.info.stages + (spec.proj_size ? 1 : 0); ++part)
    c.operands[part] = run.arena.take<T>(size_t(depths[part] * c.ring_rows));
  T* ones = nullptr;
  if (has_vectors) {
    c.unit_slot = blocks.group_slot.data();
    c.unit_rows = blocks.most_groups;
    c.unit_sums =
        run.arena.take<T>(size_t(c.unit_rows * shape.panels.count * shape.vectors.gradient_size(shape.panels)));
    ones = run.arena.take<T>(size_t(c.unit_rows));
    std::fill_n(ones, c.unit_rows, T(1));
  }
  if (spec.layer_norm)
    c.input_gates = run.arena.take<T>(size_t(c.ring_rows * shape.panels.count * shape.panels.columns));
  c.projected_row = shape.projected_row();
  if (spec.proj_size) c.projected = run.arena.take<T>(size_t(c.ring_rows * c.projected_row));
  if (spec.zoneout > 0) c.zone_carry = zeros<T>(run.arena, widest * c.projected_row);

  take_gradients(tape, shape, *tape.memory);
  const StretchReader<T> reader(run, call, tape);
  Sequence<T> between[2];  // gradients of the layers' inputs take turns
  for (ptrdiff_t layer = 1; layer < std::min<ptrdiff_t>(spec.layers, 3); ++layer)
    between[layer % 2] = take_sequence<T>(run.arena, call.batch->rows, rows.steps, shape.output_size);
  Sequence<const T> dy = call.dy;
  for (ptrdiff_t layer = spec.layers - 1; layer >= 0; --layer) {
    c.input_size = shape.input_size(layer);
    const Sequence<T> dx = layer ? between[layer % 2] : call.dx;
    for (ptrdiff_t d = 0; d < spec.directions; ++d) {
      const size_t index = size_t(layer * spec.directions + d);
      for (int stage = 0; stage < shape.info.stages; ++stage) c.hidden_weights[stage] = weights.hidden[stage][index];
      c.input_weights = dx.data ? weights.input[index] : nullptr;
      c.direction = {d == 1};
      c.x = tape.x[size_t(layer)];
      c.h = tape.y[size_t(layer)];
      c.h.data += d * shape.state_size;
      c.dy = dy;
      if (c.dy.data) c.dy.data += d * shape.state_size;
      c.dx = dx;
      c.add_dx = d > 0;
      c.dhn = shape.h_rows(call.dfinal, layer, d);
      c.dcn = shape.c_rows(call.dfinal, layer, d);
      c.dh0 = shape.h_rows(call.dstate, layer, d);
      c.dc0 = shape.c_rows(call.dstate, layer, d);
      if (tape.gradient_norms)
        c.gradient_norms = {tape.gradient_norms + ptrdiff_t(index) * call.batch->rows * call.batch->steps,
                            call.batch->steps, 1};
      c.options = options_of(shape, call.batch->rows, run.training, run.seed, index, run.threads, run.arena,
                             tape.gradient_norms != nullptr);
      c.options.unit_weights = weights.units[index];
      c.options.projection = weights.projection[index];
      DirectionBackward<T>{shape,
                           run,
                           blocks,
                           chunks,
                           bounds,
                           layer,
                           c,
                           tape.gradient[index],
                           tape.unit_gradient[index],
                           tape.projection_gradient[index],
                           ones,
                           call.hook}
          .run_blocks(tape.stretches, reader);
      if (run.stopped()) return;
    }
    if (dx.data && run.training && spec.input_dropout > 0)
      cpu_backend<T>().dropout(run, *call.batch, shape.input_size(layer), spec.input_dropout,
                               kInputMask + uint64_t(layer * spec.directions), true, read_only(dx), dx);
    if (layer && run.training && spec.dropout > 0)
      cpu_backend<T>().dropout(run, *call.batch, shape.output_size, spec.dropout, uint64_t(layer - 1), false,
                               read_only(dx), dx);
    dy = read_only(dx);
  }
}

template <class T>
TapeBytes CpuRecurrent<T>::tape_bytes(const RecurrentSpec& spec, const Batch& batch, bool training) {
  Arena memory;
  const Shape<T> shape = {spec};
  const Rows rows = sort_rows(batch, memory);
  return TapePlan<T>{shape, rows, batch.rows, training}.bounds();
}

template <class T>
bool CpuRecurrent<T>::read_tape(const RecurrentSpec& spec, const RecurrentTape<T>& any_tape, size_t index,
                                const RecurrentActivity<T>& to) {
  const auto& tape = static_cast<const CpuTape<T>&>(any_tape);
  const Shape<T> shape = {spec};
  const Rows& rows = tape.rows;
  if (tape.stretches.count() > 1) return false;
  const SavedValues<T>& values = tape.saved[index];
  const ptrdiff_t layer = ptrdiff_t(index) / spec.directions, d = ptrdiff_t(index) % spec.directions;
  const ptrdiff_t panels = shape.panels.count, units = shape.panels.units;
  const Direction direction = {d == 1};
  for (ptrdiff_t s = 0; s < rows.steps; ++s)
    for (ptrdiff_t r = 0; r < rows.active[s]; ++r) {
      const ptrdiff_t own = rows.batch[r], row = to.order ? to.order[own] : own, time = direction.time(rows, r, s);
      std::copy_n(tape.y[size_t(layer)].at(own, time) + d * shape.state_size, shape.state_size, to.h.at(row, time));
      for (ptrdiff_t p = 0; p < panels; ++p) {
        const ptrdiff_t u = p * units, n = std::min(units, spec.hidden_size - u);
        const ptrdiff_t step_row = rows.offset[s] * panels + p * rows.active[s] + r;
        const ptrdiff_t scan_row = (rows.offset[s] + r) * panels + p;
        const T* saved = values.saved + (shape.info.stages ? step_row : scan_row) * shape.info.saved * units;
        for (ptrdiff_t k = 0; k < shape.info.saved; ++k)
          std::copy_n(saved + k * units, n, to.saved.at(row, time) + k * spec.hidden_size + u);
        if (to.c.data) std::copy_n(values.cells + step_row * units, n, to.c.at(row, time) + u);
      }
    }
  return true;
}

template <class T>
void CpuRecurrent<T>::add_gradient(const RecurrentSpec& spec, const Offsets& offsets, const RecurrentTape<T>& any_tape,
                                   T* gradient, int threads) {
  const auto& tape = static_cast<const CpuTape<T>&>(any_tape);
  const Shape<T> shape = {spec};
  for (size_t i = 0; i < offsets.size(); ++i) {
    const ptrdiff_t layer = ptrdiff_t(i) / spec.directions, inputs = shape.input_size(layer), H = spec.hidden_size;
    const PackedLayout layout = shape.gradient_layout(layer);
    const T* packed = tape.gradient[i];
    for_each_task(shape.panels.count, threads, [&](ptrdiff_t panel) {
      for (int part = 0; part <= shape.info.stages; ++part)
        for_weights(shape.info, shape.panels, layout, H, panel, part, part ? shape.state_size : inputs, packed,
                    gradient + (part ? offsets[i].weight_hh : offsets[i].weight_ih),
                    [](const T* from, ptrdiff_t from_stride, T* to, ptrdiff_t to_stride, ptrdiff_t units, ptrdiff_t n) {
                      transpose<true>(to, to_stride, from, from_stride, n, units);
                    });
      if (!spec.bias || spec.layer_norm) return;
      for (bool hidden : {false, true})
        for_biases(
            shape.info, shape.panels, H, panel, hidden, gradient + (hidden ? offsets[i].bias_hh : offsets[i].bias_ih),
            [&](int g, ptrdiff_t w, T& value) {  // in the row of ones of the part that feeds the column
              const Range input = shape.info.input;
              const int part = has(input, g) ? 0 : 1;
              const int column = g - (part ? shape.info.recurrent[0].begin : input.begin);
              value +=
                  packed[panel * layout.panel + layout.offset[part] +
                         (part ? shape.state_size : inputs) * layout.width[part] + column * shape.panels.units + w];
            });
    });
    add_unit_gradient(shape, offsets[i], tape.unit_gradient[i], gradient);
    add_projection_gradient(shape, offsets[i], tape.projection_gradient[i], gradient);
  }
}

template struct CpuRecurrent<float>;
template struct CpuRecurrent<double>;

}  // namespace recurra
