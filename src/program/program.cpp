#include "program/program.h"

#include <algorithm>
#include <cmath>

#include "platform/eager_stop.h"
#include "platform/tasks.h"

namespace recurra {
namespace {

// Below this many multiply-adds, some 50 us, another thread costs more than it brings, above all where cores are busy;
// below the other no call is long enough to interrupt.
constexpr double kParallelWork = 4e6, kInterruptibleWork = 2e8;

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

// A node whose states are all the program's own reads and writes them where they are. Where some begin as values, there
// is room to put them side by side.
template <class T>
LayerForward<T> Program<T>::node_call(size_t index, Value<T>* values, Sequence<T> y, StateRows<const T> state,
                                      StateRows<T> final_state, Memory& memory) const {
  const Node& node = graph_.nodes()[index];
  const Value<T>& first = values[node.inputs[0]];
  const ptrdiff_t rows = first.batch.rows, offset = graph_.state_offset(index);
  StateRows<const T> begin = {state.data ? state.data + offset : nullptr, state.stride};
  StateRows<T> end = {final_state.data + offset, final_state.stride};
  if (node.feeds_states) {
    begin = {memory.device.take<T>(size_t(rows * node.state_size)), node.state_size};
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

// Puts the states of a node side by side where some begin as values.
template <class T>
void Program<T>::begin_node(size_t index, const Value<T>* values, const LayerForward<T>& call,
                            StateRows<const T> state) const {
  const Node& node = graph_.nodes()[index];
  if (!node.feeds_states) return;
  T* to = const_cast<T*>(call.state.data);  // of node_call()
  ptrdiff_t own = graph_.state_offset(index);
  for (size_t s = 0; s < node.specs.size(); ++s) {
    const ptrdiff_t size = node.specs[s].count * node.specs[s].size, v = node.states[s];
    StateRows<const T> from = {state.data ? state.data + own : nullptr, state.stride};
    if (v != kOwnState) from = {values[v].x.features.data, values[v].x.features.row_stride};
    copy_rows<T>(devices_.of<T>(), call.batch.rows, size, from, {to, node.state_size});
    to += size;
    if (v == kOwnState) own += size;
  }
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
    begin_node(i, values, call, input.state);
    nodes[i].layer->forward(node_run(run, i), call);
    if (run.poll()) throw Interrupted();
    finish_node(i, call, final_state);
    for (ptrdiff_t last : nodes[i].last) buffers.give_back(values[last]);
  }
  for (size_t i = 0; i < graph_.outputs().size(); ++i) finish_output(i, values, y[i]);
  seen.check();
}

template class Program<float>;
template class Program<double>;

}  // namespace recurra
