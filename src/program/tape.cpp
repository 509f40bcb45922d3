// A recorded forward run backwards: gradients of values that several nodes read are summed on the way.
#include <algorithm>

#include "program/program.h"

namespace recurra {

template <class T>
Tape<T>::Owned::~Owned() {
  if (memory && !block.data) program->tapes_.give_back(std::move(memory));
  if (backward) program->tapes_.give_back(std::move(backward));
}

template <class T>
Tape<T>::Use::Use(Tape& tape) : turn_(tape.turn_) {
  const Turn::Answer answer = turn_.take();
  check(answer != Turn::kInUse, tape.program_->name().c_str(),
        "the tape is in use by a call that is under way; wait for its end");
  if (answer == Turn::kAbandoned) tape.abandon();
}

template <class T>
Tape<T>::~Tape() {
  if (turn_.abandoned()) abandon();
}

// Closes it in a child, where another thread was at its backward when the process was forked. What that has left in the
// midst of being changed is not looked at again, nor destroyed.
template <class T>
void Tape<T>::abandon() {
  static_cast<void>(new std::vector<Step>(std::move(steps_)));
  static_cast<void>(new std::shared_ptr<Owned>(std::move(memory_)));
}

template <class T>
void Tape<T>::close() {
  const Use use(*this);
  steps_.clear();
  memory_.reset();
}

template <class T>
void Tape<T>::finish() {
  const Use use(*this);
  check(memory_ && !used_ && !finished_, program_->name().c_str(),
        "got a tape that is closed, used or finished, expected one that record has just made");
  finished_ = true;
  const auto& nodes = program_->graph().nodes();
  for (size_t i = 0; i < nodes.size(); ++i) nodes[i].layer->recorded(*steps_[i].tape);
}

template <class T>
void Tape<T>::keep_gradient_norms() {
  gradient_norms_.assign(steps_.size(), {});
  for (size_t i = 0; i < steps_.size(); ++i) {
    const RecurrentPart<T> part = recurrent(i);
    if (!part.tape) continue;
    const Batch& batch = node_batch(i);
    gradient_norms_[i].assign(size_t(part.spec->layers * part.spec->directions * batch.rows * batch.steps), 0);
    part.tape->gradient_norms = gradient_norms_[i].data();
  }
}

// Where backward leaves the parameters' gradient. One that was interrupted has left its own there: this one begins
// anew.
template <class T>
Memory& Tape<T>::backward_memory() {
  if (!memory_->block.data) {
    memory_->memory->rewind(recorded_);
    return *memory_->memory;
  }
  if (memory_->backward)
    memory_->backward->reset();
  else
    memory_->backward = program_->tapes_.take();
  return *memory_->backward;
}

// The gradient of each value: what the caller gives for an output, and what the nodes that read it give, the last one
// first. An input's first part is written to the caller's array.
template <class T>
class Tape<T>::Gradients {
 public:
  Gradients(const Tape& tape, const Sequence<const T>* dy, const Sequence<T>* dx, Memory& scratch)
      : device_(tape.program_->devices().template of<T>()), values_(tape.values_), dx_(dx), scratch_(scratch.device) {
    const Graph<T>& graph = tape.program_->graph();
    inputs_ = graph.inputs();
    const size_t count = graph.values().size();
    sums_ = std::fill_n(scratch.host.take<Sum>(count), count, Sum{}) - count;
    for (size_t i = 0; i < graph.outputs().size(); ++i) sums_[graph.outputs()[i]].data = dy[i];
  }

  // Data null: none has come.
  Sequence<const T> of(ptrdiff_t v) const { return sums_[v].data; }

  // Where a part of v's gradient may be written that is then given to add().
  Sequence<T> room(ptrdiff_t v) {
    if (v >= inputs_ || sums_[v].given) return take_sequence<T>(scratch_, values_[v].batch, values_[v].features);
    sums_[v].given = true;
    return dx_[v];
  }

  void add(ptrdiff_t v, Sequence<T> part) {
    Sum& sum = sums_[v];
    const Value<T>& value = values_[v];
    if (sum.own.data) {
      device_.add(value.batch, value.features, read_only(part), sum.own);
      return;
    }
    if (sum.data.data) device_.add(value.batch, value.features, sum.data, part);
    sum.own = part;
    sum.data = read_only(part);
  }

 private:
  struct Sum {
    Sequence<const T> data;
    Sequence<T> own;  // data null: it is the caller's, not to be written
    bool given;       // whether the caller's array is in use
  };
  const Device<T>& device_;
  const Value<T>* values_;
  const Sequence<T>* dx_;
  Arena& scratch_;
  Sum* sums_;
  ptrdiff_t inputs_;
};

template <class T>
void Tape<T>::check_versions() const {
  const auto& nodes = program_->graph().nodes();
  for (size_t i = 0; i < nodes.size(); ++i)
    check(nodes[i].layer->parameters()->version() == steps_[i].version, program_->name().c_str(),
          "the weights have changed since this tape was recorded; run backward before the optimiser's step, or record "
          "again");
}

// The gradient of a node's final states: the caller's for those that are the program's own, and that of the nodes that
// read them.
template <class T>
StateRows<const T> Tape<T>::final_gradient(size_t index, const Gradients& gradients, StateRows<const T> dfinal,
                                           Arena& scratch) const {
  const Graph<T>& graph = program_->graph();
  const auto& node = graph.nodes()[index];
  const ptrdiff_t offset = graph.state_offset(index), rows = this->rows();
  bool any = false;
  for (size_t s = 0; s < node.specs.size(); ++s) any = any || gradients.of(node.output + 1 + ptrdiff_t(s)).data;
  if (!any && !node.feeds_states) return {dfinal.data ? dfinal.data + offset : nullptr, dfinal.stride};
  any = any || (dfinal.data && std::count(node.states.begin(), node.states.end(), kOwnState) > 0);
  if (!any) return {};
  T* sum = scratch.take<T>(size_t(rows * node.state_size));
  const Device<T>& device = program_->devices().template of<T>();
  ptrdiff_t own = 0, at = 0;
  for (size_t s = 0; s < node.specs.size(); ++s) {
    const ptrdiff_t size = node.specs[s].count * node.specs[s].size;
    const bool is_own = node.states[s] == kOwnState;
    const Sequence<const T> more = gradients.of(node.output + 1 + ptrdiff_t(s));
    const StateRows<T> to = {sum + at, node.state_size};
    StateRows<const T> from = {};
    if (is_own && dfinal.data) from = {dfinal.data + offset + own, dfinal.stride};
    copy_rows(device, rows, size, from, to);
    if (more.data) add_rows(device, rows, size, {more.data, more.row_stride}, to);
    at += size;
    if (is_own) own += size;
  }
  return {sum, node.state_size};
}

// Whether there was anything to do; else the parameters' gradient is zero.
template <class T>
bool Tape<T>::backward_node(size_t index, Gradients& gradients, StateRows<const T> dfinal, StateRows<T> dstate,
                            const Run& run, Memory& memory) {
  const Graph<T>& graph = program_->graph();
  const auto& node = graph.nodes()[index];
  const LayerForward<T>& call = steps_[index].call;
  Arena& scratch = run.arena;
  const ptrdiff_t rows = this->rows();
  if (!wanted_[node.output]) return false;
  const Sequence<const T> dy = gradients.of(node.output);
  const StateRows<const T> dend = final_gradient(index, gradients, dfinal, scratch);
  StateRows<T> dbegin = {dstate.data + graph.state_offset(index), dstate.stride};
  if (!dy.data && !dend.data) return false;
  if (node.feeds_states) dbegin = {scratch.take<T>(size_t(rows * node.state_size)), node.state_size};

  auto* dx = run.host.take<Sequence<T>>(node.inputs.size());
  for (size_t k = 0; k < node.inputs.size(); ++k) {
    const ptrdiff_t v = node.inputs[k];
    dx[k] = wanted_[v] ? gradients.room(v) : Sequence<T>{};
    // What a layer without steps passes down when no gradient reached its output is zero.
    if (!dy.data && dx[k].data) run.device<T>().fill(values_[v].batch, values_[v].features, T(0), dx[k]);
  }
  node.layer->backward(
      program_->node_run(run, index),
      {call.batch, call.features, call.x, dy, dx[0], call.state, dend, dbegin, call.others, dx + 1, call.other_count},
      *steps_[index].tape, memory);
  if (run.poll()) throw Interrupted();
  for (size_t k = 0; k < node.inputs.size(); ++k)
    if (dx[k].data) gradients.add(node.inputs[k], dx[k]);
  if (!node.feeds_states) return true;
  ptrdiff_t at = 0;
  for (size_t s = 0; s < node.specs.size(); ++s) {
    const ptrdiff_t v = node.states[s];
    if (v != kOwnState && wanted_[v]) gradients.add(v, {dbegin.data + at, dbegin.stride, dbegin.stride});
    at += node.specs[s].count * node.specs[s].size;
  }
  for (const auto& state : graph.states())
    if (state.node == ptrdiff_t(index))
      copy_rows<T>(run.device<T>(), rows, state.spec.count * state.spec.size,
                   {dbegin.data + state.within, dbegin.stride}, {dstate.data + state.offset, dstate.stride});
  return true;
}

template <class T>
void Tape<T>::backward(const Sequence<const T>* dy, StateRows<const T> dfinal, const Sequence<T>* dx,
                       StateRows<T> dstate, Stop* stop, const GradientBuffers<T>* to,
                       const std::vector<ParameterGradient<T>>& more, bool commits) {
  const char* name = program_->name().c_str();
  const Use use(*this);
  check(memory_ != nullptr, name,
        "backward on a closed tape, or on one that another thread was at when this process was forked; record again");
  check(!used_, name, "backward ran on this tape already and works once; record again");
  check_versions();
  check_buffers(to);
  Memory& memory = backward_memory();
  for (std::vector<double>& norms : gradient_norms_) std::fill(norms.begin(), norms.end(), 0);

  const Graph<T>& graph = program_->graph();
  std::unique_ptr<Memory> scratch = program_->scratch_.take();
  const Run run = program_->run(work_, stop, *scratch, training_, random_);
  Gradients gradients(*this, dy, dx, *scratch);
  fill_rows(run.device<T>(), rows(), graph.state_size(), T(0), dstate);
  ran_.assign(steps_.size(), false);
  threads_ = run.threads;
  for (size_t i = steps_.size(); i-- > 0;) ran_[i] = backward_node(i, gradients, dfinal, dstate, run, memory);
  for (ptrdiff_t i = 0; i < graph.inputs(); ++i) {
    if (!dx[i].data) continue;
    const Batch& batch = values_[i].batch;
    const ptrdiff_t features = values_[i].features;
    const Sequence<const T> sum = gradients.of(i);
    if (!sum.data)
      run.device<T>().fill(batch, features, T(0), dx[i]);
    else if (sum.data != dx[i].data)  // its only part came from a state
      run.device<T>().copy({&batch, features, sum, dx[i]});
    run.device<T>().zero_padding(batch, features, dx[i]);
  }
  check_versions();  // another thread may have written them meanwhile
  if (commits) {
    add_gradients(to);
    for (const ParameterGradient<T>& one : more) {
      Gradient<T>& gradient = *find_gradient(to, *one.parameters);
      const WriteLock lock(gradient.mutex());
      gradient.add(one.gradient);
    }
  }
  pending_ = !commits;
  used_ = true;
  program_->scratch_.give_back(std::move(scratch));
}

template <class T>
void Tape<T>::check_buffers(const GradientBuffers<T>* to) const {
  if (!to) return;  // the layers' own
  for (const auto& node : program_->graph().nodes()) {
    Parameters<T>& parameters = *node.layer->parameters();
    check(
        !parameters.size() || find_gradient(to, parameters), program_->name().c_str(),
        "got gradients without those of a layer of this tape, expected all; make them with new_grads() of the layer or "
        "model that recorded it");
  }
}

template <class T>
void Tape<T>::add_gradients(const GradientBuffers<T>* to) {
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (!ran_[i]) continue;
    Layer<T>& layer = *program_->graph().nodes()[i].layer;
    Gradient<T>* const gradient = find_gradient(to, *layer.parameters());
    if (!gradient) continue;  // there are no parameters
    const WriteLock lock(gradient->mutex());
    layer.commit(*steps_[i].tape, *gradient, threads_);
  }
}

template <class T>
void Tape<T>::check_pending(const GradientBuffers<T>* to) const {
  check(memory_ && pending_, program_->name().c_str(), "got a tape without a gradient to add; run its backward first");
  check_versions();
  check_buffers(to);
}

template <class T>
void Tape<T>::commit(const GradientBuffers<T>* to) {
  const Use use(*this);
  check_pending(to);
  pending_ = false;
  add_gradients(to);
}

template class Tape<float>;
template class Tape<double>;

}  // namespace recurra
