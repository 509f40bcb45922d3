#include "program/program.h"

#include <algorithm>

namespace recurra {
namespace {

// Below this many multiply-adds, some 50 us, another thread costs more than it brings, above all where cores are busy;
// below the other no call is long enough to interrupt.
constexpr double kParallelWork = 4e6, kInterruptibleWork = 2e8;

template <class T>
Sequence<T> take_sequence(Arena& memory, const Batch& batch, ptrdiff_t features, bool time_major = false) {
  T* data = memory.take<T>(size_t(batch.rows * batch.steps * features));
  if (time_major) return {data, features, batch.rows * features};
  return {data, batch.steps * features, features};
}

template <class T>
Sequence<const T> copy_valid(Arena& memory, const Batch& batch, ptrdiff_t features, Sequence<const T> x) {
  const Sequence<T> to = take_sequence<T>(memory, batch, features);
  for (ptrdiff_t r = 0; r < batch.rows; ++r)
    for (ptrdiff_t s = 0; s < batch.length(r); ++s) std::copy_n(x.at(r, s), features, to.at(r, s));
  return read_only(to);
}

}  // namespace

std::unique_ptr<Arena> ArenaPool::take() {
  const ForkSafe<std::lock_guard<std::mutex>> lock(mutex_);
  if (spare_.empty()) return std::make_unique<Arena>();
  std::unique_ptr<Arena> arena = std::move(spare_.back());
  spare_.pop_back();
  return arena;
}

void ArenaPool::give_back(std::unique_ptr<Arena> arena) {
  try {
    arena->reset();
    const ForkSafe<std::lock_guard<std::mutex>> lock(mutex_);
    if (spare_.size() < kMost) spare_.push_back(std::move(arena));
  } catch (const std::bad_alloc&) {  // then it is simply not kept
  }
}

template <class T>
Program<T>::Program(std::vector<std::shared_ptr<Layer<T>>> layers, std::string name)
    : layers_(std::move(layers)), name_(std::move(name)) {
  check(!layers_.empty(), name_.c_str(), "got no layers, expected at least one");
  input_size_ = layers_.front()->input_size();
  if (!takes_tokens()) output_size_ = input_size_;
  largest_ = input_size_;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer<T>& layer = *layers_[i];
    check(i == 0 || !layer.takes_tokens(), name_.c_str(), "layer ", i, " (", layer.kind(),
          ") takes tokens; only the first layer can");
    check(i == 0 || !layer.input_size() || !output_size_ || layer.input_size() == output_size_, name_.c_str(), "layer ",
          i, " (", layer.kind(), ") takes ", layer.input_size(), " features, but layer ", i - 1, " (",
          layers_[i ? i - 1 : 0]->kind(), ") gives ", output_size_);
    check(returns_sequences_ || !layer.needs_sequences(), name_.c_str(), "layer ", i, " (", layer.kind(),
          ") needs sequences, but a layer before it returns its last step only; give that one return_sequences=True");
    needs_sequences_ = needs_sequences_ || layer.needs_sequences();
    if (i > 0 && !output_size_ && layer.input_size()) input_size_ = layer.input_size();
    if (layer.output_size()) output_size_ = layer.output_size();
    largest_ = std::max(largest_, output_size_);
    returns_sequences_ = returns_sequences_ && layer.returns_sequences();
    state_offsets_.push_back(state_size_);
    for (const StateSpec& spec : layer.states()) {
      states_.push_back({ptrdiff_t(i), spec, state_size_});
      state_size_ += spec.count * spec.size;
    }
    work_ += layer.work();
  }
}

template <class T>
bool Program<T>::streamable() const {
  return std::all_of(layers_.begin(), layers_.end(), [](const auto& layer) { return layer->streamable(); });
}

template <class T>
ptrdiff_t Program<T>::output_steps(ptrdiff_t steps) const {
  for (const auto& layer : layers_) steps = layer->output_steps(steps);
  return steps;
}

template <class T>
bool Program<T>::prepares_step(ptrdiff_t rows) const {
  return input_size_ > 0 && work_ * double(rows) < std::min(kParallelWork, kInterruptibleWork);
}

template <class T>
void Program<T>::check_size(const Batch& batch, ptrdiff_t features) const {
  const double elements =
      double(batch.rows) * double(std::max<ptrdiff_t>(batch.steps, 1)) * double(std::max(features, largest_));
  check(batch.rows < (ptrdiff_t(1) << 31) && batch.steps < (ptrdiff_t(1) << 31) && elements < 0x1p48, name_.c_str(),
        "a batch of ", batch.rows, " rows and ", batch.steps, " steps is too large");
}

template <class T>
Run Program<T>::run(const ProgramInput<T>& input, Arena& scratch, bool training, uint64_t seed) const {
  const double amount = work(input.batch);
  return {scratch, amount < kParallelWork ? 1 : num_threads(), amount < kInterruptibleWork ? nullptr : input.stop,
          training, seed};
}

template <class T>
Run Program<T>::layer_run(const Run& run, size_t layer) const {
  return {run.arena, run.threads, run.stop, run.training, run.seed + uint64_t(layer) * 0xD1B54A32D192ED03u};
}

template <class T>
void Program<T>::forward(const ProgramInput<T>& input, ptrdiff_t features, Sequence<T> y, StateRows<T> final_state,
                         Arena& scratch) const {
  const Run run = this->run(input, scratch, false, 0);
  Batch batch = input.batch;
  Input<T> x = input.x;
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer<T>& layer = *layers_[i];
    const ptrdiff_t width = layer.output_size() ? layer.output_size() : features;
    const Batch next = layer.output_batch(batch, scratch);
    const Sequence<T> out = i + 1 == layers_.size() ? y : take_sequence<T>(scratch, next, width);
    const ptrdiff_t offset = state_offsets_[i];
    layer.forward(layer_run(run, i), {batch,
                                      features,
                                      x,
                                      out,
                                      {input.state.data ? input.state.data + offset : nullptr, input.state.stride},
                                      {final_state.data + offset, final_state.stride}});
    if (run.stopped()) throw Interrupted();
    x = {read_only(out), {}};
    features = width;
    batch = next;
  }
  cpu_backend<T>().zero_padding(batch, features, y);
}

template <class T>
std::shared_ptr<Tape<T>> Program<T>::record(const ProgramInput<T>& input, ptrdiff_t features, bool vector,
                                            bool time_major, bool training, bool input_grad, uint64_t seed) {
  auto tape = std::make_shared<Tape<T>>();
  tape->program_ = this->shared_from_this();
  tape->memory_ = std::make_shared<typename Tape<T>::Memory>();
  tape->memory_->program = this->shared_from_this();
  tape->memory_->arena = tapes_.take();
  Arena& memory = *tape->memory_->arena;

  Batch batch = input.batch;
  if (batch.lengths)
    batch.lengths = std::copy_n(batch.lengths, batch.rows, memory.take<int64_t>(size_t(batch.rows))) - batch.rows;
  if (batch.reset) {
    uint8_t* reset = memory.take<uint8_t>(size_t(batch.rows * batch.steps));
    for (ptrdiff_t r = 0; r < batch.rows; ++r)
      for (ptrdiff_t s = 0; s < batch.length(r); ++s)
        reset[r * batch.steps + s] = input.batch.reset[r * batch.reset_row + s * batch.reset_step];
    batch.reset = reset;
    batch.reset_row = batch.steps;
    batch.reset_step = 1;
  }
  Input<T> x = input.x;
  if (takes_tokens())
    x.tokens = copy_valid<int64_t>(memory, batch, 1, x.tokens);
  else
    x.features = copy_valid<T>(memory, batch, features, x.features);
  if (input.state.data) {
    T* state = memory.take<T>(size_t(batch.rows * state_size_));
    for (ptrdiff_t r = 0; r < batch.rows; ++r) std::copy_n(input.state.at(r), state_size_, state + r * state_size_);
    tape->state_ = {state, state_size_};
  }
  tape->final_state_ = memory.take<T>(size_t(batch.rows * state_size_));
  tape->batch_ = batch;
  tape->features_ = features;
  tape->vector_ = vector;
  tape->time_major_ = time_major;
  tape->training_ = training;
  tape->input_grad_ = input_grad && !takes_tokens();
  tape->seed_ = seed;

  std::unique_ptr<Arena> scratch = scratch_.take();
  const Run run = this->run(input, *scratch, training, seed);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer<T>& layer = *layers_[i];
    const bool last = i + 1 == layers_.size();
    const ptrdiff_t width = layer.output_size() ? layer.output_size() : features, offset = state_offsets_[i];
    const Batch next = layer.output_batch(batch, memory);
    const Sequence<T> y = take_sequence<T>(memory, next, width, last && time_major && returns_sequences_);
    const uint64_t version = layer.parameters()->version();
    auto layer_tape = layer.record(layer_run(run, i),
                                   {batch,
                                    features,
                                    x,
                                    y,
                                    {tape->state_.data ? tape->state_.data + offset : nullptr, state_size_},
                                    {tape->final_state_ + offset, state_size_}},
                                   memory);
    if (run.stopped()) throw Interrupted();
    tape->steps_.push_back({batch, features, x, y, std::move(layer_tape), version});
    x = {read_only(y), {}};
    features = width;
    batch = next;
  }
  tape->y_ = tape->steps_.back().y;
  tape->output_batch_ = batch;
  tape->output_features_ = features;
  cpu_backend<T>().zero_padding(batch, features, tape->y_);
  scratch_.give_back(std::move(scratch));
  return tape;
}

template <class T>
Tape<T>::Memory::~Memory() {
  if (arena) program->tapes_.give_back(std::move(arena));
}

template <class T>
void Tape<T>::close() {
  std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  check(lock.owns_lock(), program_->name_.c_str(), "the tape is in use by another thread");
  steps_.clear();
  memory_.reset();
}

template <class T>
void Tape<T>::backward(Sequence<const T> dy, StateRows<const T> dfinal, Sequence<T> dx, StateRows<T> dstate,
                       Stop* stop) {
  const char* name = program_->name_.c_str();
  std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  check(lock.owns_lock(), name, "the tape is in use by another thread");
  check(memory_ != nullptr, name, "backward on a closed tape; record again");
  check(!used_, name, "backward ran on this tape already and works once; record again");
  const auto& layers = program_->layers_;
  const auto check_versions = [&] {
    for (size_t i = 0; i < layers.size(); ++i)
      check(
          layers[i]->parameters()->version() == steps_[i].version, name,
          "the weights have changed since this tape was recorded; run backward before the optimiser's step, or record "
          "again");
  };
  check_versions();

  std::unique_ptr<Arena> scratch = program_->scratch_.take();
  ProgramInput<T> input = {};
  input.batch = batch_;
  input.stop = stop;
  const Run run = program_->run(input, *scratch, training_, seed_);
  for (size_t i = layers.size(); i-- > 0;) {
    Step& step = steps_[i];
    const bool wanted = i > 0 || (input_grad_ && dx.data);
    const Sequence<T> out = !wanted ? Sequence<T>{}
                            : i > 0 ? take_sequence<T>(*scratch, step.batch, step.features)
                                    : dx;
    const ptrdiff_t offset = program_->state_offsets_[i];
    const LayerBackward<T> call = {step.batch,
                                   step.features,
                                   step.x,
                                   dy,
                                   out,
                                   {state_.data ? state_.data + offset : nullptr, program_->state_size_},
                                   {dfinal.data ? dfinal.data + offset : nullptr, dfinal.stride},
                                   {dstate.data ? dstate.data + offset : nullptr, dstate.stride}};
    // What a layer without steps passes down when no gradient reached it is zero.
    if (!dy.data && out.data)
      for (ptrdiff_t r = 0; r < step.batch.rows; ++r)
        for (ptrdiff_t s = 0; s < step.batch.length(r); ++s) std::fill_n(out.at(r, s), step.features, T(0));
    layers[i]->backward(program_->layer_run(run, i), call, *step.tape, *memory_->arena);
    if (run.stopped()) throw Interrupted();
    dy = read_only(out);
  }
  if (dx.data) cpu_backend<T>().zero_padding(batch_, features_, dx);
  check_versions();  // another thread may have written them meanwhile
  for (size_t i = 0; i < layers.size(); ++i) {
    const WriteLock lock_parameters(layers[i]->parameters()->mutex());
    layers[i]->commit(*steps_[i].tape, run.threads);
  }
  used_ = true;
  program_->scratch_.give_back(std::move(scratch));
}

template class Program<float>;
template class Program<double>;
template class Tape<float>;
template class Tape<double>;

}  // namespace recurra
