#include "layers/attention_decoder.h"

#include <numeric>

#include "layers/recurrent.h"

namespace recurra {
namespace {

constexpr const char* kName = "AttentionDecoder";

bool is_additive(const AttentionDecoderOptions& o) { return o.attention == "additive"; }

ScoringOptions scoring_options(const AttentionDecoderOptions& o) {
  return {o.attention, o.hidden_size, o.memory_size, o.attention_size};
}

RecurrentSpec cell_spec(const AttentionDecoderOptions& o) {
  check(o.input_size >= 1 && o.input_size <= 1 << 20, kName, "input_size is ", o.input_size, ", expected 1 to ",
        1 << 20);
  check(o.input_feeding || !is_additive(o), kName,
        "input_feeding is off, expected on, as additive attention feeds its context to the cell");
  RecurrentOptions r;
  r.cell = o.cell;
  r.input_size = o.input_size + (is_additive(o) ? o.memory_size : o.input_feeding ? o.hidden_size : 0);
  r.hidden_size = o.hidden_size;
  r.bias = o.bias;
  const RecurrentSpec spec = recurrent_spec(r);
  check(kernels<float>().cells[spec.cell]->info->stages > 0, kName, "got cell '", o.cell,
        "', expected one whose gates see the state, as it runs step by step");
  return spec;
}

template <class T>
std::vector<ParameterSpec> parameter_specs(const AttentionDecoderOptions& o) {
  const std::vector<ParameterSpec> attention = Scoring<T>(kName, scoring_options(o)).parameters();
  std::vector<ParameterSpec> specs = recurrent_parameters(cell_spec(o));
  specs.insert(specs.end(), attention.begin(), attention.end());
  if (!is_additive(o)) specs.push_back({"weight_combine", {o.hidden_size, o.memory_size + o.hidden_size}});
  return specs;
}

template <class F>
void for_each_step(const Run& run, const Batch& batch, const F& f) {
  constexpr ptrdiff_t kBlock = 64;
  for_step_blocks(run, batch, kBlock, [&](ptrdiff_t r, ptrdiff_t begin, ptrdiff_t count) {
    for (ptrdiff_t s = begin; s < begin + count; ++s) f(r, s);
  });
}

// Room for a sequence whose steps lie one after the other, as the cell and the projections take them.
template <class T>
Sequence<T> take_steps(Arena& memory, ptrdiff_t rows, ptrdiff_t steps, ptrdiff_t features) {
  const ptrdiff_t row = spaced<T>(features);
  return {memory.take<T>(size_t(rows * steps * row)), row, rows * row};
}

// A batch, and its sequences, with rows and steps in each other's place.
Batch turned(const Batch& batch, Arena& memory) {
  int64_t* rows = memory.take<int64_t>(size_t(batch.steps));
  for (ptrdiff_t s = 0, running = batch.rows; s < batch.steps; ++s) {
    while (batch.length(running - 1) <= s) --running;
    rows[s] = running;
  }
  const bool whole = batch.steps > 0 && rows[batch.steps - 1] == batch.rows;
  return {batch.steps, batch.rows, whole ? nullptr : rows, nullptr, 0, 0};
}
template <class T>
Sequence<const T> turned(Sequence<T> s) {
  return {s.data, s.step_stride, s.row_stride};
}

template <class T>
Sequence<T> from_column(Sequence<T> s, ptrdiff_t column) {
  return {s.data + column, s.row_stride, s.step_stride};
}

}  // namespace

template <class T>
struct AttentionDecoder<T>::Packed {
  Arena memory;
  typename Scoring<T>::Packed scoring;
  PackedMatrix<T> combine, combine_t;
};

// A call's arrays, with rows in order of descending lengths.
template <class T>
struct AttentionDecoder<T>::Pass {
  const int32_t* order = nullptr;  // the caller's rows
  Batch batch = {};
  Sequence<T> x = {};         // of the cell: [the caller's x; what attention adds]
  Sequence<T> h = {};         // one step more than there are: h before step t at t
  Sequence<T> combined = {};  // [c; h]
  Sequence<T> a = {};
  StateRows<const T> state = {};
  StateRows<T> final_state = {};
  Attending<T> attending;

  Sequence<T> h_after() const { return {h.data + h.step_stride, h.row_stride, h.step_stride}; }
};

template <class T>
struct AttentionDecoder<T>::Tape : LayerTape<T> {
  Pass pass;
  std::unique_ptr<RecurrentTape<T>> cell;
  const RecurrentSpec* spec = nullptr;
  T* gradient = nullptr;  // of the parameters that are not the cell's
  RecurrentPart<T> recurrent() const override { return {cell.get(), spec, pass.order}; }
};

template <class T>
AttentionDecoder<T>::AttentionDecoder(const AttentionDecoderOptions& options)
    : AttendingLayer<T>(parameter_specs<T>(options), Scoring<T>(kName, scoring_options(options))),
      input_size_(options.input_size),
      feeds_(options.input_feeding && !is_additive(options)),
      spec_(cell_spec(options)),
      offsets_(recurrent_offsets(spec_, *this->parameters())) {
  const auto& entries = this->parameters()->entries();
  cell_end_ = entries[recurrent_parameters(spec_).size() - 1].end;
  if (!looks_first()) weight_combine_ = entries.back().begin;
}

template <class T>
std::vector<StateSpec> AttentionDecoder<T>::states() const {
  std::vector<StateSpec> states = {{"h", 1, spec_.hidden_size}};
  if (kernels<T>().cells[spec_.cell]->info->has_cell) states.push_back({"c", 1, spec_.hidden_size});
  if (feeds_) states.push_back({"a", 1, spec_.hidden_size});
  return states;
}

template <class T>
double AttentionDecoder<T>::work() const {
  const double H = double(spec_.hidden_size), gates = kernels<T>().cells[spec_.cell]->info->gates * H;
  return gates * (double(spec_.input_size) + H + 20) + scoring_.work() +
         (looks_first() ? 0 : H * (double(this->memory_size()) + H + 20));
}

template <class T>
auto AttentionDecoder<T>::packed(bool backward) -> Weights {
  return this->cached(backward ? both_ : forward_, [&](Arena memory) {
    auto made = std::make_unique<Packed>();
    made->memory = std::move(memory);
    const T* values = this->parameters()->values();
    made->scoring = scoring_.pack(values, backward, made->memory);
    const auto combine = [&](bool transposed) {
      return PackedMatrix<T>::of(values + weight_combine_, spec_.hidden_size, this->memory_size() + spec_.hidden_size,
                                 nullptr, transposed, made->memory);
    };
    if (!looks_first()) made->combine = combine(false);
    if (!looks_first() && backward) made->combine_t = combine(true);
    return made;
  });
}

template <class T>
auto AttentionDecoder<T>::cell_weights(bool transposed, int threads) -> CellWeights {
  return this->cached(transposed ? cell_transposed_ : cell_forward_, [&](Arena memory) {
    return cpu_backend<T>().pack(spec_, offsets_, this->parameters()->values(), transposed, threads, std::move(memory));
  });
}

// What attention does for some rows at a step, or for some steps of a row. The caller's x and y are copied then too,
// while their other side is in a near cache; where data is null, x is in its place already, or y not wanted.
template <class T>
class AttentionDecoder<T>::ForwardHook final : public StepHook<T> {
 public:
  ForwardHook(const AttentionDecoder& layer, const Packed& packed, const Pass& pass, Sequence<const T> x, Sequence<T> y,
              Stop* stop)
      : layer_(layer), packed_(packed), pass_(pass), x_(x), y_(y), stop_(stop) {}

  void copy_x(ptrdiff_t row, ptrdiff_t step) const {
    std::copy_n(x_.at(pass_.order[row], step), layer_.input_size_, pass_.x.at(row, step));
  }

  void before_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) override {
    for (ptrdiff_t r = first; x_.data && r < first + count; ++r) copy_x(r, step);
    if (layer_.looks_first()) {
      const AttentionCall<T>& call = pass_.attending.call;
      packed_.scoring.query.multiply(count, pass_.h.at(first, step), pass_.h.row_stride,
                                     const_cast<T*>(call.query.at(first, step)), call.query.row_stride);
      for (ptrdiff_t r = first; r < first + count && !stopped(); ++r) look(r, step, 1);
    } else {
      const ptrdiff_t H = layer_.spec_.hidden_size;
      for (ptrdiff_t r = first; r < first + count; ++r) {
        T* to = pass_.x.at(r, step) + layer_.input_size_;
        if (step > 0)
          std::copy_n(pass_.a.at(r, step - 1), H, to);
        else if (pass_.state.data)
          std::copy_n(pass_.state.at(r) + layer_.fed_state(), H, to);
        else
          std::fill_n(to, H, T(0));
      }
    }
  }

  void after_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) override {
    if (!layer_.looks_first()) {
      for (ptrdiff_t r = first; r < first + count && !stopped(); ++r) look(r, step, 1);
      combine(first, step, count, &Sequence<T>::row_stride);
    }
    for (ptrdiff_t r = first; y_.data && r < first + count; ++r) copy_y(r, step);
  }

  // Some steps of a row, where they need not wait for each other.
  void steps_of(ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) {
    look(row, begin, count);
    combine(row, begin, count, &Sequence<T>::step_stride);
    for (ptrdiff_t s = begin; s < begin + count; ++s) copy_y(row, s);
  }

 private:
  bool stopped() const { return stop_ && stop_->poll(); }
  void copy_y(ptrdiff_t row, ptrdiff_t step) const {
    const T* y = layer_.looks_first() ? pass_.h.at(row, step + 1) : pass_.a.at(row, step);
    std::copy_n(y, layer_.spec_.hidden_size, y_.at(pass_.order[row], step));
  }
  void look(ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) const {
    pass_.attending.rows->forward(pass_.attending.call, row, pass_.order[row], begin, count);
  }

  // a = tanh(W_c [c; h]) from (row, step) on, along rows or along steps.
  void combine(ptrdiff_t row, ptrdiff_t step, ptrdiff_t count, ptrdiff_t Sequence<T>::*along) const {
    const ptrdiff_t H = layer_.spec_.hidden_size, combined_next = pass_.combined.*along, a_next = pass_.a.*along;
    T* combined = pass_.combined.at(row, step);
    T* a = pass_.a.at(row, step);
    for (ptrdiff_t i = 0; i < count; ++i)
      std::copy_n(pass_.h.at(row, step + 1) + i * (pass_.h.*along), H,
                  combined + i * combined_next + layer_.memory_size());
    packed_.combine.multiply(count, combined, combined_next, a, a_next);
    for (ptrdiff_t i = 0; i < count; ++i) kernels<T>().rows.tanh(a + i * a_next, a + i * a_next, H);
  }

  const AttentionDecoder& layer_;
  const Packed& packed_;
  const Pass& pass_;
  Sequence<const T> x_;
  Sequence<T> y_;
  Stop* stop_;
};

template <class T>
class AttentionDecoder<T>::BackwardHook final : public StepHook<T> {
 public:
  // Gradients of the pass's arrays.
  struct Gradients {
    Sequence<T> x, h;         // as in Pass, with a hook of one step at a time; the cell's dy is h from step 1 on
    Sequence<T> context;      // with additive scores
    Sequence<T> combined, a;  // a: before its tanh
    StateRows<const T> final_state;
  };

  BackwardHook(const AttentionDecoder& layer, const Packed& packed, const Pass& pass, Sequence<const T> dy,
               Sequence<T> dx, const Gradients& gradients, const Run& run)
      : layer_(layer), packed_(packed), pass_(pass), dy_(dy), dx_(dx), d_(gradients), stop_(run.stop) {
    if (layer.looks_first())
      through_query_ = {run.arena.take<T>(size_t(pass.batch.rows * layer.spec_.hidden_size)), layer.spec_.hidden_size};
  }

  // What the state before step 0 has from the query of that step.
  const T* through_first_query(ptrdiff_t row) const { return through_query_.at(row); }

  void before_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) override {
    const ptrdiff_t H = layer_.spec_.hidden_size;
    if (layer_.looks_first()) {
      for (ptrdiff_t r = first; r < first + count; ++r) {
        T* dh = d_.h.at(r, step + 1);
        copy_dy(r, step, dh);
        for (ptrdiff_t k = 0; step + 1 < pass_.batch.length(r) && k < H; ++k) dh[k] += through_query_.at(r)[k];
      }
      return;
    }
    for (ptrdiff_t r = first; r < first + count; ++r) {
      T* da = d_.a.at(r, step);
      copy_dy(r, step, da);
      if (!layer_.feeds_) continue;
      const T* fed = step + 1 < pass_.batch.length(r) ? d_.x.at(r, step + 1) + layer_.input_size_
                     : d_.final_state.data            ? d_.final_state.at(r) + layer_.fed_state()
                                                      : nullptr;
      for (ptrdiff_t k = 0; fed && k < H; ++k) da[k] += fed[k];
    }
    combine(first, step, count, &Sequence<T>::row_stride);
    for (ptrdiff_t r = first; r < first + count && !stopped(); ++r) look(r, step, 1);
  }

  void after_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) override {
    for (ptrdiff_t r = first; dx_.data && r < first + count; ++r) copy_dx(r, step);
    if (!layer_.looks_first()) return;
    const AttentionCall<T>& call = pass_.attending.call;
    for (ptrdiff_t r = first; r < first + count; ++r)
      std::copy_n(d_.x.at(r, step) + layer_.input_size_, layer_.memory_size(), d_.context.at(r, step));
    for (ptrdiff_t r = first; r < first + count && !stopped(); ++r)
      pass_.attending.rows->backward(call, r, pass_.order[r], step, 1);
    packed_.scoring.query_t.multiply(count, call.dquery.at(first, step), call.dquery.row_stride,
                                     through_query_.at(first), through_query_.stride);
  }

  void steps_of(ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) {
    for (ptrdiff_t s = begin; s < begin + count; ++s) copy_dy(row, s, d_.a.at(row, s));
    combine(row, begin, count, &Sequence<T>::step_stride);
    look(row, begin, count);
  }

  void copy_dx(ptrdiff_t row, ptrdiff_t step) const {
    std::copy_n(d_.x.at(row, step), layer_.input_size_, dx_.at(pass_.order[row], step));
  }

 private:
  void copy_dy(ptrdiff_t row, ptrdiff_t step, T* to) const {
    if (dy_.data)
      std::copy_n(dy_.at(pass_.order[row], step), layer_.spec_.hidden_size, to);
    else
      std::fill_n(to, layer_.spec_.hidden_size, T(0));
  }
  bool stopped() const { return stop_ && stop_->poll(); }
  // From the gradient of a to that of [c; h].
  void combine(ptrdiff_t row, ptrdiff_t step, ptrdiff_t count, ptrdiff_t Sequence<T>::*along) const {
    T* da = d_.a.at(row, step);
    const ptrdiff_t next = d_.a.*along;
    for (ptrdiff_t i = 0; i < count; ++i) {
      const T* a = pass_.a.at(row, step) + i * (pass_.a.*along);
      kernels<T>().rows.activation_gradient[kTanh](a, a, da + i * next, da + i * next, layer_.spec_.hidden_size);
    }
    packed_.combine_t.multiply(count, da, next, d_.combined.at(row, step), d_.combined.*along);
  }
  // To that of h, by way of c too.
  void look(ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) const {
    const AttentionCall<T>& call = pass_.attending.call;
    pass_.attending.rows->backward(call, row, pass_.order[row], begin, count);
    for (ptrdiff_t s = begin; s < begin + count; ++s) {
      const T* direct = d_.combined.at(row, s) + layer_.memory_size();
      const T* query = call.dquery.at(row, s);
      T* to = d_.h.at(row, s + 1);
      for (ptrdiff_t k = 0; k < layer_.spec_.hidden_size; ++k) to[k] = direct[k] + query[k];
    }
  }

  const AttentionDecoder& layer_;
  const Packed& packed_;
  const Pass& pass_;
  Sequence<const T> dy_;
  Sequence<T> dx_;
  Gradients d_;
  Stop* stop_;
  StateRows<T> through_query_ = {};
};

template <class T>
void AttentionDecoder<T>::take_arrays(Pass& pass, Arena& arena) const {
  const ptrdiff_t N = pass.batch.rows, steps = pass.batch.steps, H = spec_.hidden_size;
  AttentionCall<T>& call = pass.attending.call;
  pass.x = take_steps<T>(arena, N, steps, spec_.input_size);
  pass.h = take_steps<T>(arena, N, steps + 1, H);
  if (looks_first()) {
    call.query = read_only(take_steps<T>(arena, N, steps, scoring_.spec().key_size));
    call.context = from_column(pass.x, input_size_);
  } else {
    pass.combined = take_steps<T>(arena, N, steps, this->memory_size() + H);
    pass.a = take_steps<T>(arena, N, steps, H);
    call.query = read_only(pass.h_after());
    call.context = pass.combined;
  }
}

template <class T>
void AttentionDecoder<T>::begin(const Run& run, const LayerForward<T>& call, const Packed& packed, bool backward,
                                Pass& pass, Arena& arena) const {
  const ptrdiff_t N = call.batch.rows, H = spec_.hidden_size, S = this->state_size();
  check(!call.batch.reset, kName,
        "got reset, expected none, as what a row looks at stays the same; give each sequence a row of its own");
  this->check_size(call.batch, call.others[0]);
  int32_t* order = arena.take<int32_t>(size_t(N));
  int64_t* lengths = arena.take<int64_t>(size_t(N));
  std::iota(order, order + N, 0);
  std::stable_sort(order, order + N, [&](int32_t a, int32_t b) { return call.batch.length(a) > call.batch.length(b); });
  for (ptrdiff_t r = 0; r < N; ++r) lengths[r] = call.batch.length(order[r]);
  const ptrdiff_t steps = N ? lengths[0] : 0;
  pass.order = order;
  pass.batch = {N, steps, lengths, nullptr, 0, 0};

  scoring_.prepare(run, packed.scoring, call.others[0], backward, pass.attending, arena);
  take_arrays(pass, arena);
  pass.attending.call.weights = take_sequence<T>(arena, N, steps, pass.attending.batch.steps);
  if (call.state.data) {
    T* state = arena.take<T>(size_t(N * S));
    for (ptrdiff_t r = 0; r < N; ++r) std::copy_n(call.state.at(order[r]), S, state + r * S);
    pass.state = {state, S};
  }
  pass.final_state = {arena.take<T>(size_t(N * S)), S};
  for (ptrdiff_t r = 0; r < N; ++r) {
    if (pass.state.data)
      std::copy_n(pass.state.at(r), H, pass.h.at(r, 0));
    else
      std::fill_n(pass.h.at(r, 0), H, T(0));
  }
}

template <class T>
void AttentionDecoder<T>::end(const LayerForward<T>& call, const Pass& pass) const {
  const ptrdiff_t H = spec_.hidden_size;
  for (ptrdiff_t r = 0; r < pass.batch.rows; ++r) {
    const ptrdiff_t row = pass.order[r], steps = pass.batch.length(r);
    if (feeds_) {
      T* fed = pass.final_state.at(r) + fed_state();
      if (steps)
        std::copy_n(pass.a.at(r, steps - 1), H, fed);
      else if (pass.state.data)
        std::copy_n(pass.state.at(r) + fed_state(), H, fed);
      else
        std::fill_n(fed, H, T(0));
    }
    std::copy_n(pass.final_state.at(r), this->state_size(), call.final_state.at(row));
  }
}

// Runs the cell over the pass by `run_cell(call)`, attention between its steps or after them.
template <class T>
template <class F>
void AttentionDecoder<T>::run_pass(const Run& run, const LayerForward<T>& call, const Packed& packed, Pass& pass,
                                   const F& run_cell) {
  const CellWeights weights = cell_weights(false, run.threads);
  ForwardHook hook(*this, packed, pass, call.x.features, call.y, run.stop);
  if (!fed_size()) for_each_step(run, pass.batch, [&](ptrdiff_t r, ptrdiff_t s) { hook.copy_x(r, s); });
  RecurrentForward<T> cell = {&spec_,         weights.value.get(), &pass.batch,      read_only(pass.x),
                              pass.h_after(), pass.state,          pass.final_state, fed_size() ? &hook : nullptr};
  run_cell(cell);
  if (fed_size() || run.stopped()) return;
  for_step_blocks(run, pass.batch, pass.attending.rows->queries_at_once(),
                  [&](ptrdiff_t r, ptrdiff_t begin, ptrdiff_t count) { hook.steps_of(r, begin, count); });
}

template <class T>
void AttentionDecoder<T>::attend(const Run& run, const LayerForward<T>& call, Sequence<T> weights) {
  const Weights packed = this->packed(false);
  Pass pass;
  begin(run, call, *packed.value, false, pass, run.arena);
  if (run.stopped()) return;
  run_pass(run, call, *packed.value, pass,
           [&](const RecurrentForward<T>& cell) { cpu_backend<T>().forward(run, cell); });
  if (run.stopped()) return;
  end(call, pass);
  for (ptrdiff_t r = 0; weights.data && r < pass.batch.rows; ++r)
    for (ptrdiff_t s = 0; s < pass.batch.length(r); ++s)
      std::copy_n(pass.attending.call.weights.at(r, s), call.others[0].batch.steps, weights.at(pass.order[r], s));
}

template <class T>
std::unique_ptr<LayerTape<T>> AttentionDecoder<T>::record(const Run& run, const LayerForward<T>& call, Arena& memory) {
  const Weights packed = this->packed(false);
  auto tape = std::make_unique<Tape>();
  tape->spec = &spec_;
  begin(run, call, *packed.value, true, tape->pass, memory);
  if (run.stopped()) return tape;
  run_pass(run, call, *packed.value, tape->pass,
           [&](const RecurrentForward<T>& cell) { tape->cell = cpu_backend<T>().record(run, cell, memory); });
  if (!run.stopped()) end(call, tape->pass);
  return tape;
}

template <class T>
void AttentionDecoder<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& any_tape,
                                   Arena& memory) {
  auto& tape = static_cast<Tape&>(any_tape);
  Pass& pass = tape.pass;
  Attending<T>& to = pass.attending;
  const Weights packed = this->packed(true);
  const CellWeights weights = cell_weights(true, run.threads);
  const ptrdiff_t N = pass.batch.rows, steps = pass.batch.steps, H = spec_.hidden_size, S = this->state_size();
  const ptrdiff_t rest = this->parameters()->size() - cell_end_;
  tape.gradient = memory.take<T>(size_t(rest));
  std::fill_n(tape.gradient, rest, T(0));
  T* gradient = tape.gradient - cell_end_;

  typename BackwardHook::Gradients d = {};
  // With a hook between the steps, only one step's at a time.
  const auto take = [&](ptrdiff_t count, ptrdiff_t features) {
    Sequence<T> taken = take_steps<T>(run.arena, N, fed_size() ? 1 : count, features);
    if (fed_size()) taken.step_stride = 0;
    return taken;
  };
  if (fed_size() || call.dx.data) d.x = take(steps, spec_.input_size);
  d.h = take(steps + 1, H);
  if (looks_first()) {
    d.context = take_steps<T>(run.arena, N, steps, this->memory_size());
  } else {
    d.combined = take_steps<T>(run.arena, N, steps, this->memory_size() + H);
    d.a = take_steps<T>(run.arena, N, steps, H);
  }
  if (call.dfinal.data) {
    T* dfinal = run.arena.take<T>(size_t(N * S));
    for (ptrdiff_t r = 0; r < N; ++r) std::copy_n(call.dfinal.at(pass.order[r]), S, dfinal + r * S);
    d.final_state = {dfinal, S};
  }
  to.call.dscores = take_sequence<T>(run.arena, N, steps, to.batch.steps);
  to.call.dquery = take_steps<T>(run.arena, N, steps, scoring_.spec().key_size);
  to.call.dcontext = read_only(looks_first() ? d.context : d.combined);

  BackwardHook hook(*this, *packed.value, pass, call.dy, call.dx, d, run);
  if (!fed_size()) {
    for_step_blocks(run, pass.batch, to.rows->queries_at_once(),
                    [&](ptrdiff_t r, ptrdiff_t begin, ptrdiff_t count) { hook.steps_of(r, begin, count); });
  }
  if (run.stopped()) return;

  const StateRows<T> dstate = {run.arena.template take<T>(size_t(N * S)), S};
  RecurrentBackward<T> cell = {};
  cell.spec = &spec_;
  cell.weights = weights.value.get();
  cell.batch = &pass.batch;
  cell.dy = {d.h.data + d.h.step_stride, d.h.row_stride, d.h.step_stride};
  cell.dx = d.x;
  cell.state = pass.state;
  cell.dfinal = d.final_state;
  cell.dstate = dstate;
  cell.hook = fed_size() ? &hook : nullptr;
  cpu_backend<T>().backward(run, cell, *tape.cell);
  if (run.stopped()) return;

  const Sequence<T> dmemory = call.others_dx ? call.others_dx[0] : Sequence<T>{};
  scoring_.finish(run, packed.value->scoring, pass.batch, pass.order, to, dmemory, gradient);
  if (run.stopped()) return;
  const Batch by_steps = turned(pass.batch, run.arena);
  scoring_.finish_queries(run, by_steps, turned(pass.h), turned(to.call.dquery), gradient);
  if (!looks_first())
    cpu_backend<T>().outer(run, by_steps, this->memory_size() + H, H, turned(pass.combined), turned(d.a),
                           gradient + weight_combine_, nullptr);
  if (call.dx.data && !fed_size())
    for_each_step(run, pass.batch, [&](ptrdiff_t r, ptrdiff_t s) { hook.copy_dx(r, s); });
  for (ptrdiff_t r = 0; call.dstate.data && r < N; ++r) {
    const ptrdiff_t row = pass.order[r], n = pass.batch.length(r);
    T* from = dstate.at(r);
    for (ptrdiff_t k = 0; looks_first() && n && k < H; ++k) from[k] += hook.through_first_query(r)[k];
    if (feeds_) {
      const T* fed = n ? d.x.at(r, 0) + input_size_ : d.final_state.data ? d.final_state.at(r) + fed_state() : nullptr;
      if (fed)
        std::copy_n(fed, H, from + fed_state());
      else
        std::fill_n(from + fed_state(), H, T(0));
    }
    std::copy_n(from, S, call.dstate.at(row));
  }
}

template <class T>
void AttentionDecoder<T>::commit(LayerTape<T>& any_tape, int threads) {
  const auto& tape = static_cast<Tape&>(any_tape);
  T* gradient = this->parameters()->grads();
  cpu_backend<T>().add_gradient(spec_, offsets_, *tape.cell, gradient, threads);
  for (ptrdiff_t i = cell_end_; i < this->parameters()->size(); ++i) gradient[i] += tape.gradient[i - cell_end_];
}

// A step of all rows: a pass of one step, its cell prepared.
template <class T>
class AttentionDecoder<T>::Step final : public LayerStep<T> {
 public:
  Step(AttentionDecoder& layer, const Run& run, ptrdiff_t copies, const TwoStates<T>& states,
       const OtherInput<T>& memory, T* weights, Arena& arena)
      : layer_(layer),
        rows_(memory.batch.rows * copies),
        states_(states),
        packed_(layer.packed(false)),
        cell_weights_(layer.cell_weights(false, 1)),
        cell_(cpu_backend<T>().prepare_step(layer.spec_, rows_, states)),
        hook_(layer, *packed_.value, pass_, {}, {}, nullptr) {
    const ptrdiff_t steps = memory.batch.steps;
    int32_t* order = arena.take<int32_t>(size_t(rows_));
    for (ptrdiff_t r = 0; r < rows_; ++r) order[r] = int32_t(r / copies);
    pass_.order = order;
    pass_.batch = {rows_, 1, nullptr, nullptr, 0, 0};
    layer.scoring_.prepare(run, packed_.value->scoring, memory, false, pass_.attending, arena);
    layer.take_arrays(pass_, arena);
    pass_.attending.call.weights = {weights, steps, steps};
  }

  void run(const LayerStepCall<T>& call) override {
    const ptrdiff_t H = layer_.spec_.hidden_size;
    const StateRows<T>&from = states_[size_t(call.from)], &to = states_[size_t(1 - call.from)];
    pass_.state = {from.data, from.stride};
    for (ptrdiff_t r = 0; r < rows_; ++r) {
      std::copy_n(call.x + r * call.x_row, layer_.input_size_, pass_.x.at(r, 0));
      std::copy_n(from.at(r), H, pass_.h.at(r, 0));
    }
    if (layer_.fed_size()) hook_.before_step(0, rows_, 0);
    StepCall<T> cell = call;
    cell.x = pass_.x.data;
    cell.x_row = pass_.x.row_stride;
    cell.y = pass_.h.at(0, 1);
    cell.y_row = pass_.h.row_stride;
    cell_->run(*cell_weights_.value, cell);
    hook_.after_step(0, rows_, 0);
    const Sequence<T> y = layer_.looks_first() ? pass_.h_after() : pass_.a;
    for (ptrdiff_t r = 0; r < rows_; ++r) {
      std::copy_n(y.at(r, 0), H, call.y + r * call.y_row);
      if (layer_.feeds_) std::copy_n(pass_.a.at(r, 0), H, to.at(r) + layer_.fed_state());
    }
  }

 private:
  const AttentionDecoder& layer_;
  const ptrdiff_t rows_;
  const TwoStates<T> states_;
  const Weights packed_;
  const CellWeights cell_weights_;
  std::unique_ptr<RecurrentStep<T>> cell_;
  Pass pass_;
  ForwardHook hook_;
};

template <class T>
std::unique_ptr<LayerStep<T>> AttentionDecoder<T>::prepare_search(const Run& run, ptrdiff_t copies,
                                                                  const TwoStates<T>& states,
                                                                  const OtherInput<T>& memory, T* weights,
                                                                  Arena& arena) {
  return std::make_unique<Step>(*this, run, copies, states, memory, weights, arena);
}

template <class T>
TapeBytes AttentionDecoder<T>::tape_bytes(const LayerForward<T>& call, bool training) const {
  const size_t N = size_t(call.batch.rows), states = N * size_t(this->state_size());
  this->check_size(call.batch, call.others[0]);
  Batch batch = call.batch;  // as begin() makes it
  if (batch.lengths) batch.steps = N ? *std::max_element(batch.lengths, batch.lengths + N) : 0;
  Arena count = Arena::counting();
  count.take<int32_t>(N);  // the rows' order
  count.take<int64_t>(N);
  scoring_.count(call.others[0], count);
  Pass pass;
  pass.batch = {batch.rows, batch.steps, nullptr, nullptr, 0, 0};
  take_arrays(pass, count);
  take_sequence<T>(count, batch, call.others[0].batch.steps);  // the weights
  for (int i = call.state.data ? 0 : 1; i < 2; ++i) count.take<T>(states);
  count.take<T>(size_t(this->parameters()->size() - cell_end_));  // their gradient
  const size_t all = count.used() + cpu_backend<T>().tape_bytes(spec_, batch, training).all;
  return {all, all};
}

template class AttentionDecoder<float>;
template class AttentionDecoder<double>;

}  // namespace recurra
