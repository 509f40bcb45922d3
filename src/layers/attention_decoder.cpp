#include "layers/attention_decoder.h"

#include <numeric>

#include "device/valid_steps.h"
#include "layers/attention_decoder_step.h"
#include "layers/recurrent.h"

namespace recurra {
namespace {

constexpr const char* kName = "AttentionDecoder";

bool is_additive(const AttentionDecoderOptions& o) { return o.attention == "additive"; }

ScoringOptions scoring_options(const AttentionDecoderOptions& o) {
  return {o.attention, o.hidden_size, o.memory_size, o.attention_size};
}

RecurrentSpec cell_spec(const Devices& devices, const AttentionDecoderOptions& o) {
  check(o.input_size >= 1 && o.input_size <= 1 << 20, kName, "input_size is ", o.input_size, ", expected 1 to ",
        1 << 20);
  check(o.input_feeding || !is_additive(o), kName,
        "input_feeding is off, expected on, as additive attention feeds its context to the cell");
  RecurrentOptions r;
  r.cell = o.cell;
  r.input_size = o.input_size + (is_additive(o) ? o.memory_size : o.input_feeding ? o.hidden_size : 0);
  r.hidden_size = o.hidden_size;
  r.bias = o.bias;
  const RecurrentSpec spec = recurrent_spec(devices, r);
  check(devices.f32.cell(spec.cell).stages > 0, kName, "got cell '", o.cell,
        "', expected one whose gates see the state, as it runs step by step");
  return spec;
}

template <class T>
std::vector<ParameterSpec> parameter_specs(const Devices& devices, const AttentionDecoderOptions& o) {
  const std::vector<ParameterSpec> attention = Scoring<T>(kName, scoring_options(o)).parameters();
  std::vector<ParameterSpec> specs = recurrent_parameters(devices, cell_spec(devices, o));
  specs.insert(specs.end(), attention.begin(), attention.end());
  if (!is_additive(o)) specs.push_back({"weight_combine", {o.hidden_size, o.memory_size + o.hidden_size}});
  return specs;
}

}  // namespace

template <class T>
struct AttentionDecoder<T>::Tape : LayerTape<T> {
  Pass pass;
  std::unique_ptr<RecurrentTape<T>> cell;
  const RecurrentSpec* spec = nullptr;
  T* gradient = nullptr;  // of the parameters after the cell's
  RecurrentPart<T> recurrent() const override { return {cell.get(), spec, pass.order}; }
};

template <class T>
AttentionDecoder<T>::AttentionDecoder(const Devices& devices, const AttentionDecoderOptions& options)
    : AttendingLayer<T>(devices, parameter_specs<T>(devices, options), Scoring<T>(kName, scoring_options(options))),
      input_size_(options.input_size),
      feeds_(options.input_feeding && !is_additive(options)),
      spec_(cell_spec(devices, options)),
      offsets_(recurrent_offsets(devices, spec_, *this->parameters())) {
  const auto& entries = this->parameters()->entries();
  cell_end_ = entries[recurrent_parameters(devices, spec_).size() - 1].end;
  if (!looks_first()) weight_combine_ = entries.back().begin;
}

template <class T>
std::vector<StateSpec> AttentionDecoder<T>::states() const {
  std::vector<StateSpec> states = {{"h", 1, spec_.hidden_size}};
  if (this->device().cell(spec_.cell).has_cell) states.push_back({"c", 1, spec_.hidden_size});
  if (feeds_) states.push_back({"a", 1, spec_.hidden_size});
  return states;
}

template <class T>
double AttentionDecoder<T>::work() const {
  const double H = double(spec_.hidden_size), gates = this->device().cell(spec_.cell).gates * H;
  return gates * (double(spec_.input_size) + H + 20) + scoring_.work() +
         (looks_first() ? 0 : H * (double(this->memory_size()) + H + 20));
}

template <class T>
auto AttentionDecoder<T>::packed(bool backward) -> Weights {
  return this->cached(backward ? both_ : forward_, [&](Arena memory) {
    auto made = std::make_unique<Packed>();
    made->memory = std::move(memory);
    const T* values = this->parameters()->values();
    made->scoring = scoring_.pack(this->device(), values, backward, made->memory);
    const auto combine = [&](bool transposed) {
      return PackedMatrix<T>::of(this->device(), values + weight_combine_, spec_.hidden_size,
                                 this->memory_size() + spec_.hidden_size, nullptr, transposed, made->memory);
    };
    if (!looks_first()) made->combine = combine(false);
    if (!looks_first() && backward) made->combine_t = combine(true);
    return made;
  });
}

template <class T>
auto AttentionDecoder<T>::cell_weights(bool transposed, int threads) -> CellWeights {
  return this->cached(transposed ? cell_transposed_ : cell_forward_, [&](Arena memory) {
    return this->device().pack({&spec_, &offsets_, this->parameters()->values(), transposed, threads},
                               std::move(memory));
  });
}

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
void AttentionDecoder<T>::take(const LayerForward<T>& call, bool backward, Pass& pass, Arena& arena,
                               Arena& host) const {
  const ptrdiff_t N = call.batch.rows, S = this->state_size();
  check(!call.batch.reset, kName,
        "got reset, expected none, as what a row looks at stays the same; give each sequence a row of its own");
  this->check_size(call.batch, call.others[0]);
  int32_t* order = host.take<int32_t>(size_t(N));
  int64_t* lengths = host.take<int64_t>(size_t(N));
  std::iota(order, order + N, 0);
  std::stable_sort(order, order + N, [&](int32_t a, int32_t b) { return call.batch.length(a) > call.batch.length(b); });
  for (ptrdiff_t r = 0; r < N; ++r) lengths[r] = call.batch.length(order[r]);
  const ptrdiff_t steps = N ? lengths[0] : 0;
  pass.order = order;
  pass.batch = {N, steps, lengths, nullptr, 0, 0};

  scoring_.take(this->device(), call.others[0], backward, pass.attending, arena);
  take_arrays(pass, arena);
  pass.attending.call.weights = take_sequence<T>(arena, N, steps, pass.attending.batch.steps);
  if (call.state.data) pass.state = {arena.take<T>(size_t(N * S)), S};
  pass.final_state = {arena.take<T>(size_t(N * S)), S};
}

template <class T>
void AttentionDecoder<T>::begin(const Run& run, const LayerForward<T>& call, const Packed& packed, Pass& pass) const {
  const ptrdiff_t N = pass.batch.rows, S = this->state_size();
  scoring_.prepare(run, packed.scoring, pass.attending, run.arena);
  if (pass.state.data) {
    const HostAccess access(run.devices);
    T* const to = const_cast<T*>(pass.state.data);  // of take()
    for (ptrdiff_t r = 0; r < N; ++r) std::copy_n(call.state.at(pass.order[r]), S, to + r * S);
  }
  copy_rows<T>(run.device<T>(), N, spec_.hidden_size, pass.state, {pass.h.data, pass.h.row_stride});
}

template <class T>
RecurrentForward<T> AttentionDecoder<T>::cell_call(const Pass& pass) const {
  return {&spec_, nullptr, &pass.batch, read_only(pass.x), pass.h_after(), pass.state, pass.final_state};
}

template <class T>
void AttentionDecoder<T>::end(const LayerForward<T>& call, const Pass& pass) const {
  const HostAccess access(this->devices());
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
  ForwardHook hook(*this, packed, pass, call.x.features, call.y, run);
  if (!fed_size()) {
    const HostAccess access(run.devices);
    for_each_valid(
        pass.batch, input_size_, [&](ptrdiff_t r, ptrdiff_t s) { hook.copy_x(r, s); }, run.stop);
  }
  RecurrentForward<T> cell = cell_call(pass);
  cell.weights = weights.value.get();
  cell.hook = fed_size() ? &hook : nullptr;
  run_cell(cell);
  if (fed_size() || run.stopped()) return;
  for_step_blocks(run, pass.batch, pass.attending.rows->queries_at_once(),
                  [&](ptrdiff_t r, ptrdiff_t begin, ptrdiff_t count) { hook.steps_of(r, begin, count); });
}

template <class T>
void AttentionDecoder<T>::attend(const Run& run, const LayerForward<T>& call, Sequence<T> weights) {
  const Weights packed = this->packed(false);
  Pass pass;
  take(call, false, pass, run.arena, run.host);
  begin(run, call, *packed.value, pass);
  if (run.stopped()) return;
  run_pass(run, call, *packed.value, pass,
           [&](const RecurrentForward<T>& cell) { run.device<T>().forward(run, cell); });
  if (run.stopped()) return;
  end(call, pass);
  const HostAccess access(run.devices);
  for (ptrdiff_t r = 0; weights.data && r < pass.batch.rows; ++r)
    for (ptrdiff_t s = 0; s < pass.batch.length(r); ++s)
      std::copy_n(pass.attending.call.weights.at(r, s), call.others[0].batch.steps, weights.at(pass.order[r], s));
}

template <class T>
std::unique_ptr<LayerTape<T>> AttentionDecoder<T>::take_tape(const LayerForward<T>& call, bool training,
                                                             Memory& memory) const {
  auto tape = std::make_unique<Tape>();
  tape->spec = &spec_;
  take(call, true, tape->pass, memory.device, memory.host);
  tape->cell = this->device().take_tape(cell_call(tape->pass), training, memory);
  return tape;
}

template <class T>
void AttentionDecoder<T>::record(const Run& run, const LayerForward<T>& call, LayerTape<T>& any_tape) {
  auto& tape = static_cast<Tape&>(any_tape);
  const Weights packed = this->packed(false);
  begin(run, call, *packed.value, tape.pass);
  if (run.stopped()) return;
  run_pass(run, call, *packed.value, tape.pass,
           [&](const RecurrentForward<T>& cell) { run.device<T>().record(run, cell, *tape.cell); });
  if (!run.stopped()) end(call, tape.pass);
}

template <class T>
void AttentionDecoder<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& any_tape,
                                   Memory& memory) {
  auto& tape = static_cast<Tape&>(any_tape);
  Pass& pass = tape.pass;
  Attending<T>& to = pass.attending;
  const Weights packed = this->packed(true);
  const CellWeights weights = cell_weights(true, run.threads);
  const ptrdiff_t N = pass.batch.rows, steps = pass.batch.steps, H = spec_.hidden_size, S = this->state_size();
  const ptrdiff_t rest = this->parameters()->size() - cell_end_;
  tape.gradient = memory.device.take<T>(size_t(rest));
  fill_flat(run.device<T>(), tape.gradient, rest, T(0));
  T* gradient = tape.gradient - cell_end_;
  to.rows->begin_backward(run.arena);

  typename BackwardHook::Gradients d = {};
  // With a hook between the steps, these hold one step at a time.
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
    const HostAccess access(run.devices);
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
  cell.memory = &memory.device;
  cell.hook = fed_size() ? &hook : nullptr;
  run.device<T>().backward(run, cell, *tape.cell);
  if (run.stopped()) return;

  const Sequence<T> dmemory = call.others_dx ? call.others_dx[0] : Sequence<T>{};
  scoring_.finish(run, packed.value->scoring, pass.batch, pass.order, to, dmemory, gradient);
  if (run.stopped()) return;
  const Batch by_steps = turned(pass.batch, run.host);
  scoring_.finish_queries(run, by_steps, turned(pass.h), turned(to.call.dquery), gradient);
  if (!looks_first())
    run.device<T>().outer(run, by_steps, this->memory_size() + H, H, turned(pass.combined), turned(d.a),
                          gradient + weight_combine_, nullptr);
  if (call.dx.data && !fed_size()) {
    const HostAccess access(run.devices);
    for_each_valid(
        pass.batch, input_size_, [&](ptrdiff_t r, ptrdiff_t s) { hook.copy_dx(r, s); }, run.stop);
  }
  const HostAccess access(run.devices);
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
void AttentionDecoder<T>::commit(LayerTape<T>& any_tape, Gradient<T>& to, int threads) {
  const auto& tape = static_cast<Tape&>(any_tape);
  this->device().add_gradient(spec_, offsets_, *tape.cell, to.data(), threads);
  add_flat<T>(this->device(), tape.gradient, this->parameters()->size() - cell_end_, to.data() + cell_end_);
}

template <class T>
std::unique_ptr<LayerStep<T>> AttentionDecoder<T>::prepare_search(const Run& run, ptrdiff_t copies,
                                                                  const OtherInput<T>& memory, T* weights,
                                                                  Memory& kept) {
  return std::make_unique<Step>(*this, run, copies, memory, weights, kept);
}

template <class T>
TapeBytes AttentionDecoder<T>::tape_bytes(const LayerForward<T>& call, bool training) const {
  Memory count = Memory::counting();
  Pass pass;
  take(call, true, pass, count.device, count.host);
  count.device.template take<T>(size_t(this->parameters()->size() - cell_end_));  // their gradient
  const size_t all = count.used() + this->device().tape_bytes(spec_, pass.batch, training).all;
  return {all, all};
}

template class AttentionDecoder<float>;
template class AttentionDecoder<double>;

}  // namespace recurra
