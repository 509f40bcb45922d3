#include "program/program.h"

#include <algorithm>
#include <cmath>

#include "device/valid_steps.h"
#include "platform/eager_stop.h"
#include "platform/tasks.h"

namespace recurra {
namespace {

// Below this many multiply-adds, some 50 us, another thread costs more than it brings, above all where cores are busy;
// below the other no call is long enough to interrupt.
constexpr double kParallelWork = 4e6, kInterruptibleWork = 2e8;

template <class T>
Sequence<const T> copy_of(const Device<T>& device, Arena& memory, const Batch& batch, ptrdiff_t features,
                          Sequence<const T> x) {
  const Sequence<T> to = take_sequence<T>(memory, batch, features);
  device.copy({&batch, features, x, to});
  return read_only(to);
}

Sequence<const int64_t> copy_tokens(Arena& memory, const Batch& batch, Sequence<const int64_t> tokens) {
  const Sequence<int64_t> to = take_sequence<int64_t>(memory, batch, 1);
  for_each_valid(batch, 1, [&](ptrdiff_t r, ptrdiff_t s) { *to.at(r, s) = *tokens.at(r, s); });
  return read_only(to);
}

Batch copy_batch(Arena& memory, Batch batch) {
  if (batch.lengths)
    batch.lengths = std::copy_n(batch.lengths, batch.rows, memory.take<int64_t>(size_t(batch.rows))) - batch.rows;
  if (!batch.reset) return batch;
  uint8_t* reset = memory.take<uint8_t>(size_t(batch.rows * batch.steps));
  for_each_valid(batch, 1, [&](ptrdiff_t r, ptrdiff_t s) {
    reset[r * batch.steps + s] = batch.reset[r * batch.reset_row + s * batch.reset_step];
  });
  batch.reset = reset;
  batch.reset_row = batch.steps;
  batch.reset_step = 1;
  return batch;
}

// Where the outputs of nodes go in inference: what nobody reads any more serves the next that fits.
template <class T>
class Buffers {
 public:
  Buffers(Memory& memory, size_t most) : memory_(memory.device), spare_(memory.host.take<Buffer>(most)) {}

  Sequence<T> take(const Value<T>& value) {
    const ptrdiff_t size = size_of(value);
    Buffer* const end = spare_ + count_;
    Buffer* found = std::find_if(spare_, end, [&](const Buffer& buffer) { return buffer.size >= size; });
    if (found == end) return take_sequence<T>(memory_, value.batch, value.features);
    T* data = found->data;
    *found = spare_[--count_];
    return {data, value.batch.steps * value.features, value.features};
  }
  void give_back(const Value<T>& value) { spare_[count_++] = {const_cast<T*>(value.x.features.data), size_of(value)}; }

 private:
  struct Buffer {
    T* data;
    ptrdiff_t size;
  };
  static ptrdiff_t size_of(const Value<T>& value) { return value.batch.rows * value.batch.steps * value.features; }

  Arena& memory_;
  Buffer* spare_;
  size_t count_ = 0;
};

}  // namespace

std::unique_ptr<Memory> MemoryPool::take() {
  const ForkSafe<std::lock_guard<std::mutex>> lock(mutex_);
  if (spare_.empty()) return std::make_unique<Memory>(devices_);
  std::unique_ptr<Memory> memory = std::move(spare_.back());
  spare_.pop_back();
  return memory;
}

void MemoryPool::give_back(std::unique_ptr<Memory> memory) {
  try {
    memory->reset();
    const ForkSafe<std::lock_guard<std::mutex>> lock(mutex_);
    if (spare_.size() < kMost) spare_.push_back(std::move(memory));
  } catch (const std::bad_alloc&) {  // then it is simply not kept
  }
}

template <class T>
Program<T>::Program(const GraphSpec<T>& graph, std::string name)
    : graph_(graph, std::move(name)),
      devices_(graph_.nodes().front().layer->devices()),
      scratch_(devices_),
      tapes_(devices_) {
  for (const Node& node : graph_.nodes()) {
    check(&node.layer->devices() == &devices_, graph_.name().c_str(),
          "got layers on different devices, expected one for all");
    for (const Version* one : node.layer->versions())
      if (std::find(versions_.begin(), versions_.end(), one) == versions_.end()) versions_.push_back(one);
  }
}

template <class T>
ptrdiff_t Program<T>::prepared_rows() const {
  for (ptrdiff_t i = 0; i < graph_.inputs(); ++i)
    if (!graph_.values()[size_t(i)].features) return -1;
  const double work = std::max(graph_.work_per_step(), 1.0);
  return ptrdiff_t(std::ceil(std::min(kParallelWork, kInterruptibleWork) / work)) - 1;
}

template <class T>
Run Program<T>::run(double work, Stop* stop, Memory& scratch, bool training, const RandomRows& random) const {
  const bool interruptible = work >= kInterruptibleWork || are_stops_eager();
  return {devices_, scratch.device, scratch.host, threads_for(work, kParallelWork), interruptible ? stop : nullptr,
          training, random};
}

template <class T>
Run Program<T>::node_run(const Run& run, size_t node) const {
  Run own = run;
  own.random.seed += uint64_t(node) * 0xD1B54A32D192ED03u;
  return own;
}

// A node whose states are all the program's own reads and writes them where they are. Where some begin as values, they
// are put side by side first.
template <class T>
LayerForward<T> Program<T>::node_call(size_t index, Value<T>* values, Sequence<T> y, StateRows<const T> state,
                                      StateRows<T> final_state, Memory& memory) const {
  const Node& node = graph_.nodes()[index];
  const Value<T>& first = values[node.inputs[0]];
  const ptrdiff_t rows = first.batch.rows, offset = graph_.state_offset(index);
  StateRows<const T> begin = {state.data ? state.data + offset : nullptr, state.stride};
  StateRows<T> end = {final_state.data + offset, final_state.stride};
  if (node.feeds_states) {
    T* const begins = memory.device.take<T>(size_t(rows * node.state_size));
    ptrdiff_t own = 0, at = 0;
    for (size_t s = 0; s < node.specs.size(); ++s) {
      const ptrdiff_t size = node.specs[s].count * node.specs[s].size, v = node.states[s];
      StateRows<const T> from = {begin.data ? begin.data + own : nullptr, begin.stride};
      if (v != kOwnState) from = {values[v].x.features.data, values[v].x.features.row_stride};
      copy_rows<T>(devices_.of<T>(), rows, size, from, {begins + at, node.state_size});
      at += size;
      if (v == kOwnState) own += size;
    }
    begin = {begins, node.state_size};
    end = {memory.device.take<T>(size_t(rows * node.state_size)), node.state_size};
  }
  const ptrdiff_t count = ptrdiff_t(node.inputs.size()) - 1;
  auto* others = count ? memory.host.take<OtherInput<T>>(size_t(count)) : nullptr;
  for (ptrdiff_t k = 0; k < count; ++k) {
    const Value<T>& other = values[node.inputs[size_t(k) + 1]];
    others[k] = {other.batch, other.features, other.x.features};
  }
  ptrdiff_t v = node.output, at = 0;
  values[v].x = {read_only(y), {}};
  for (const StateSpec& spec : node.specs) {
    values[++v].x = {{end.data + at, end.stride, end.stride}, {}};
    at += spec.count * spec.size;
  }
  return {first.batch, first.features, first.x, y, begin, end, others, count};
}

// Own states that were put side by side with others go to their places.
template <class T>
void Program<T>::finish_node(size_t index, const LayerForward<T>& call, StateRows<T> final_state) const {
  if (!graph_.nodes()[index].feeds_states) return;
  for (const auto& state : graph_.states())
    if (state.node == ptrdiff_t(index))
      copy_rows<T>(devices_.of<T>(), call.batch.rows, state.spec.count * state.spec.size,
                   {call.final_state.data + state.within, call.final_state.stride},
                   {final_state.data + state.offset, final_state.stride});
}

template <class T>
void Program<T>::finish_output(size_t output, const Value<T>* values, Sequence<T> y) const {
  const ptrdiff_t v = graph_.outputs()[output];
  const Value<T>& value = values[v];
  if (v == graph_.nodes()[size_t(graph_.output(ptrdiff_t(output)).node)].output) {
    devices_.of<T>().zero_padding(value.batch, value.features, y);
    return;
  }
  const Sequence<const T> state = value.x.features;
  copy_rows<T>(devices_.of<T>(), value.batch.rows, value.features, {state.data, state.row_stride},
               {y.data, y.row_stride});
}

template <class T>
void Program<T>::forward(const ProgramInput<T>& input, Value<T>* values, const Sequence<T>* y, StateRows<T> final_state,
                         Memory& scratch) const {
  Seen seen(versions_, scratch.host.take<uint64_t>(versions_.size()));
  seen.look();
  const auto& nodes = graph_.nodes();
  const Run run = this->run(graph_.work(values), input.stop, scratch, false, {});
  Buffers<T> buffers(scratch, nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    const ptrdiff_t v = nodes[i].output, output = graph_.values()[size_t(v)].output;
    const Sequence<T> out = output >= 0 ? y[output] : buffers.take(values[v]);
    const LayerForward<T> call = node_call(i, values, out, input.state, final_state, scratch);
    nodes[i].layer->forward(node_run(run, i), call);
    if (run.poll()) throw Interrupted();
    finish_node(i, call, final_state);
    for (ptrdiff_t last : nodes[i].last) buffers.give_back(values[last]);
  }
  for (size_t i = 0; i < graph_.outputs().size(); ++i) finish_output(i, values, y[i]);
  seen.check();
}

template <class T>
std::vector<size_t> Program<T>::share_budget(const Value<T>* values, StateRows<const T> state, size_t held,
                                             const RecordOptions& options) const {
  const auto& nodes = graph_.nodes();
  std::vector<size_t> shares(nodes.size(), size_t(-1));
  if (options.memory_budget == size_t(-1)) return shares;
  const Batch& batch = values[0].batch;
  std::vector<TapeBytes> sizes;
  size_t all = held, least = held;
  for (const Node& node : nodes) {
    const Value<T>& value = values[node.output];
    Arena count = Arena::counting();
    if (graph_.values()[size_t(node.output)].output < 0) take_sequence<T>(count, value.batch, value.features);
    std::vector<OtherInput<T>> others;
    for (size_t k = 1; k < node.inputs.size(); ++k) {
      const Value<T>& other = values[node.inputs[k]];
      others.push_back({other.batch, other.features, {}});
    }
    if (!others.empty()) count.take<OtherInput<T>>(others.size());
    for (int i = 0; node.feeds_states && i < 2; ++i) count.take<T>(size_t(batch.rows * node.state_size));
    const Value<T>& first = values[node.inputs[0]];
    const T some = 0;  // asked for is only whether a state is given
    const StateRows<const T> begin = node.feeds_states ? StateRows<const T>{&some, 0} : state;
    const TapeBytes size = node.layer->tape_bytes(
        {first.batch, first.features, {}, {}, begin, {}, others.data(), ptrdiff_t(others.size())}, options.training);
    all += size.all + count.used();
    least += size.least + count.used();
    sizes.push_back(size);
  }
  if (all <= options.memory_budget) return shares;
  check(least <= options.memory_budget, name().c_str(), "memory_budget is ", options.memory_budget,
        " bytes, expected at least ", least, " for ", batch.rows, " rows of ", batch.steps,
        " steps; raise it, or record fewer rows or steps at once");
  size_t spare = options.memory_budget - least;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const size_t more = std::min(spare, sizes[i].all - sizes[i].least);
    shares[i] = sizes[i].least + more;
    spare -= more;
  }
  return shares;
}

template <class T>
std::shared_ptr<Tape<T>> Program<T>::record(const ProgramInput<T>& input, const RecordOptions& options) {
  std::vector<uint64_t> counts(versions_.size());
  Seen seen(versions_, counts.data());
  seen.look();
  auto tape = std::make_shared<Tape<T>>();
  tape->program_ = this->shared_from_this();
  tape->memory_ = std::make_shared<typename Tape<T>::Owned>();
  tape->memory_->program = this->shared_from_this();
  tape->memory_->memory = tapes_.take();
  Memory& memory = *tape->memory_->memory;
  const auto& nodes = graph_.nodes();
  const auto& infos = graph_.values();

  auto* inputs = memory.host.take<Value<T>>(size_t(graph_.inputs()));
  auto* wanted = memory.host.take<bool>(infos.size());
  for (ptrdiff_t i = 0; i < graph_.inputs(); ++i) {
    const bool tokens = infos[size_t(i)].tokens;
    Value<T>& value = inputs[i] = input.inputs[i];
    value.batch = copy_batch(memory.host, value.batch);
    if (tokens)
      value.x.tokens = copy_tokens(memory.host, value.batch, value.x.tokens);
    else
      value.x.features = copy_of(devices_.of<T>(), memory.device, value.batch, value.features, value.x.features);
    wanted[i] = !tokens && options.input_grad && options.input_grad[i];
  }
  for (const Node& node : nodes) {
    bool any = node.layer->parameters()->size() > 0;
    for (ptrdiff_t v : node.inputs) any = any || wanted[v];
    for (ptrdiff_t v : node.states) any = any || v == kOwnState || wanted[v];
    std::fill_n(wanted + node.output, node.specs.size() + 1, any);
  }
  Value<T>* values = graph_.plan(inputs, memory.host);
  const ptrdiff_t rows = values[0].batch.rows, size = state_size();
  StateRows<const T> state = {};
  if (input.state.data) {
    T* copy = memory.device.take<T>(size_t(rows * size));
    copy_rows<T>(devices_.of<T>(), rows, size, input.state, {copy, size});
    state = {copy, size};
  }
  const StateRows<T> final_state = {memory.device.take<T>(size_t(rows * size)), size};
  auto* y = memory.host.take<Sequence<T>>(graph_.outputs().size());
  for (size_t i = 0; i < graph_.outputs().size(); ++i) {
    const Value<T>& value = values[graph_.outputs()[i]];
    y[i] = take_sequence<T>(memory.device, value.batch, value.features, options.time_major && !value.vector);
  }
  auto* outputs = memory.host.take<Value<T>>(graph_.outputs().size());
  const std::vector<size_t> shares = share_budget(values, state, memory.used(), options);
  tape->values_ = values;
  tape->wanted_ = wanted;
  tape->final_state_ = final_state.data;
  tape->work_ = graph_.work(values);
  tape->time_major_ = options.time_major;
  tape->training_ = options.training;
  tape->random_ = options.random;

  std::unique_ptr<Memory> scratch = scratch_.take();
  const Run run = this->run(tape->work_, input.stop, *scratch, options.training, options.random);
  tape->steps_.reserve(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    Layer<T>& layer = *nodes[i].layer;
    const ptrdiff_t v = nodes[i].output, output = infos[size_t(v)].output;
    const Sequence<T> out =
        output >= 0 ? y[output] : take_sequence<T>(memory.device, values[v].batch, values[v].features);
    LayerForward<T> call = node_call(i, values, out, state, final_state, memory);
    call.tape_bytes = shares[i];
    const uint64_t version = layer.parameters()->version();
    auto layer_tape = layer.record(node_run(run, i), call, memory);
    if (run.poll()) throw Interrupted();
    finish_node(i, call, final_state);
    tape->steps_.push_back({call, std::move(layer_tape), version});
  }
  for (size_t i = 0; i < graph_.outputs().size(); ++i) {
    finish_output(i, values, y[i]);
    outputs[i] = values[graph_.outputs()[i]];
    outputs[i].x = {read_only(y[i]), {}};
  }
  tape->outputs_ = outputs;
  seen.check();
  tape->recorded_ = memory.mark();
  if (options.finishes) tape->finish();
  scratch_.give_back(std::move(scratch));
  return tape;
}

template class Program<float>;
template class Program<double>;

}  // namespace recurra
