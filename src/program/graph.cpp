#include "program/graph.h"

#include <algorithm>

namespace recurra {

template <class T>
GraphSpec<T> chain(std::vector<std::shared_ptr<Layer<T>>> layers) {
  GraphSpec<T> spec;
  spec.inputs = {{}};
  ptrdiff_t last = 0, next = 1;
  for (auto& layer : layers) {
    const ptrdiff_t states = ptrdiff_t(layer->states().size());
    spec.nodes.push_back({std::move(layer), {last}});
    last = next;
    next += 1 + states;
  }
  spec.outputs = {last};
  return spec;
}

template <class T>
Graph<T>::Graph(const GraphSpec<T>& spec, std::string name)
    : name_(std::move(name)), inputs_(ptrdiff_t(spec.inputs.size())), outputs_(spec.outputs) {
  const char* what = name_.c_str();
  check(!spec.nodes.empty(), what, "got no layers, expected at least one");
  check(!spec.inputs.empty() && !spec.outputs.empty(), what, "got no inputs or no outputs, expected at least one each");
  for (const InputSpec& input : spec.inputs) {
    ValueInfo info;
    info.features = input.features;
    info.axis = input.axis;
    values_.push_back(info);
  }
  for (const NodeSpec<T>& node : spec.nodes) add_node(node);
  find_features();
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const ptrdiff_t v = outputs_[i];
    check(v >= inputs_ && v < ptrdiff_t(values_.size()), what, "output ", i, " is no value that a layer makes");
    check(values_[size_t(v)].output < 0, what, "one value is output ", values_[size_t(v)].output, " and ", i);
    values_[size_t(v)].output = ptrdiff_t(i);
  }
  for (ptrdiff_t i = 0; i < inputs_; ++i) check(values_[size_t(i)].is_read, what, "no layer reads input ", i);
  find_axes();
  find_lasts();
}

template <class T>
std::string Graph<T>::place(ptrdiff_t node) const {
  return "layer " + std::to_string(node) + " (" + nodes_[size_t(node)].layer->kind() + ")";
}

template <class T>
void Graph<T>::add_node(const NodeSpec<T>& spec) {
  const ptrdiff_t index = ptrdiff_t(nodes_.size());
  Node node = {};
  node.layer = spec.layer;
  node.inputs = spec.inputs;
  node.specs = spec.layer->states();
  node.states = spec.states;
  if (node.states.empty()) node.states.assign(node.specs.size(), kOwnState);
  node.output = ptrdiff_t(values_.size());
  node.work = spec.layer->work();
  nodes_.push_back(std::move(node));
  Node& added = nodes_.back();
  check_inputs(added, place(index));

  state_offsets_.push_back(state_size_);
  values_.push_back({});
  values_.back().node = index;
  values_.back().features = output_features(added);
  for (size_t s = 0; s < added.specs.size(); ++s) {
    const StateSpec& state = added.specs[s];
    const ptrdiff_t size = state.count * state.size;
    if (added.states[s] == kOwnState) {
      states_.push_back({index, state, state_size_, added.state_size});
      state_size_ += size;
    } else {
      added.feeds_states = true;
      require(added.states[s], size);
    }
    added.state_size += size;
    values_.push_back({});
    values_.back().node = index;
    values_.back().features = size;
    values_.back().axis = Axis::kVector;
  }
}

template <class T>
void Graph<T>::check_inputs(const Node& node, const std::string& place) {
  const char* what = name_.c_str();
  const Layer<T>& layer = *node.layer;
  const ptrdiff_t count = ptrdiff_t(node.inputs.size());
  check(layer.inputs() ? count == layer.inputs() : count > 0, what, place, " reads ", layer.inputs(), " inputs, got ",
        count);
  check(node.states.size() == node.specs.size(), what, place, " has ", node.specs.size(), " states, got ",
        node.states.size());
  for (size_t k = 0; k < node.inputs.size() + node.states.size(); ++k) {
    const bool is_input = k < node.inputs.size();
    const ptrdiff_t v = is_input ? node.inputs[k] : node.states[k - node.inputs.size()];
    if (!is_input && v == kOwnState) continue;
    check(v >= 0 && v < ptrdiff_t(values_.size()), what, place, " reads value ", v, ", which is not made before it");
    ValueInfo& value = values_[size_t(v)];
    const bool tokens = is_input && layer.takes_tokens();
    check(!tokens || value.node < 0, what, place, " takes tokens; only the first layer can");
    check(!value.is_read || value.tokens == tokens, what, place, " and another layer read input ", v,
          ", one of them tokens, the other one features");
    value.tokens = tokens;
    value.is_read = true;
    if (is_input) require(v, k == 0 ? layer.input_size() : layer.other_size(ptrdiff_t(k) - 1));
  }
}

// Settles the features of a value, and of those that it takes them from.
template <class T>
void Graph<T>::require(ptrdiff_t v, ptrdiff_t features) {
  ValueInfo& value = values_[size_t(v)];
  if (!features) return;
  if (value.features) {
    const std::string maker = value.node < 0 ? "input " + std::to_string(v) : place(value.node);
    check(value.features == features, name_.c_str(), place(ptrdiff_t(nodes_.size()) - 1), " takes ", features,
          " features, but ", maker, " gives ", value.features);
    return;
  }
  value.features = features;
  if (value.node < 0) return;
  const Node& maker = nodes_[size_t(value.node)];
  if (maker.inputs.size() == 1 && !maker.layer->output_size()) require(maker.inputs[0], features);
}

template <class T>
ptrdiff_t Graph<T>::output_features(const Node& node) const {
  std::vector<ptrdiff_t> features;
  for (ptrdiff_t v : node.inputs) features.push_back(values_[size_t(v)].tokens ? 1 : values_[size_t(v)].features);
  const bool known = node.layer->output_size() || std::find(features.begin(), features.end(), 0) == features.end();
  return known ? node.layer->output_features(features.data(), ptrdiff_t(features.size())) : 0;
}

// Those that became known by what reads them may make others known.
template <class T>
void Graph<T>::find_features() {
  for (const Node& node : nodes_) {
    ptrdiff_t& features = values_[size_t(node.output)].features;
    if (!features) features = output_features(node);
  }
  for (const ValueInfo& value : values_)
    if (!value.tokens) largest_ = std::max(largest_, value.features);
}

template <class T>
void Graph<T>::find_axes() {
  const char* what = name_.c_str();
  for (size_t i = nodes_.size(); i-- > 0;) {
    const Node& node = nodes_[i];
    const bool output_needs = values_[size_t(node.output)].needs_sequences;
    check(!output_needs || node.layer->returns_sequences(), what, "a layer needs sequences, but ", place(ptrdiff_t(i)),
          " before it returns its last step only; give that one return_sequences=True");
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      ValueInfo& value = values_[size_t(node.inputs[k])];
      if (node.layer->makes_sequences()) {
        if (value.node < 0 && value.axis == Axis::kEither) value.axis = Axis::kVector;
        continue;
      }
      bool& needs = value.needs_sequences;
      needs = needs || (k == 0 || node.layer->joins() ? node.layer->needs_sequences() || output_needs : true);
    }
    for (ptrdiff_t v : node.states) {
      if (v == kOwnState) continue;
      Axis& axis = values_[size_t(v)].axis;
      check(axis != Axis::kSequence, what, place(ptrdiff_t(i)), " is to begin with value ", v,
            ", which has a time axis; expected vectors");
      if (v < inputs_) axis = Axis::kVector;
    }
  }
  for (const Node& node : nodes_) {
    const Axis first = values_[size_t(node.inputs[0])].axis;
    Axis& axis = values_[size_t(node.output)].axis;
    axis = node.layer->returns_sequences() ? first : Axis::kVector;
    if (!node.layer->makes_sequences()) continue;
    check(first != Axis::kSequence, what,
          "a layer that repeats vectors reads a sequence; expected vectors: a state, or "
          "the output of a layer with return_sequences=False");
    axis = Axis::kSequence;
  }
  for (const ValueInfo& value : values_)
    check(!value.needs_sequences || value.axis != Axis::kVector, what,
          "a layer needs sequences, but reads vectors: a state, or an input without time");
}

template <class T>
void Graph<T>::find_lasts() {
  std::vector<ptrdiff_t> last(values_.size(), -1);
  for (size_t i = 0; i < nodes_.size(); ++i)
    for (ptrdiff_t v : nodes_[i].inputs) last[size_t(v)] = ptrdiff_t(i);
  // A vector that is also a state is read where the node begins: not after its inputs.
  for (size_t i = 0; i < nodes_.size(); ++i)
    for (ptrdiff_t v : nodes_[i].states)
      if (v != kOwnState) last[size_t(v)] = std::max(last[size_t(v)], ptrdiff_t(i));
  for (const Node& node : nodes_) {
    const size_t v = size_t(node.output);
    if (values_[v].output < 0 && last[v] >= 0) nodes_[size_t(last[v])].last.push_back(node.output);
  }
}

template <class T>
bool Graph<T>::streamable() const {
  for (ptrdiff_t i = 0; i < inputs_; ++i)
    if (values_[size_t(i)].axis == Axis::kVector) return false;
  for (const Node& node : nodes_) {
    if (!node.layer->streamable() || node.feeds_states) return false;
    for (size_t v = size_t(node.output) + 1; v <= size_t(node.output) + node.specs.size(); ++v)
      if (values_[v].is_read || values_[v].output >= 0) return false;
  }
  return true;
}

template <class T>
void Graph<T>::check_size(const Batch& batch, ptrdiff_t features) const {
  const double elements =
      double(batch.rows) * double(std::max<ptrdiff_t>(batch.steps, 1)) * double(std::max(features, largest_));
  check(batch.rows < (ptrdiff_t(1) << 31) && batch.steps < (ptrdiff_t(1) << 31) && elements < 0x1p48, name_.c_str(),
        "a batch of ", batch.rows, " rows and ", batch.steps, " steps is too large");
}

template <class T>
double Graph<T>::work(const Value<T>* values) const {
  double sum = 0;
  for (const Node& node : nodes_) {  // a layer that takes any number of features does something with each
    const Value<T>& first = values[node.inputs[0]];
    const Batch* memory = node.layer->inputs() > 1 ? &values[node.inputs[1]].batch : nullptr;
    sum += std::max(node.layer->work(first.batch, memory), double(first.features) * double(first.batch.tokens()));
  }
  return sum;
}

template <class T>
double Graph<T>::work_per_step() const {
  double sum = 0;
  for (const Node& node : nodes_) sum += node.work;
  return sum;
}

template <class T>
void Graph<T>::check_joined(ptrdiff_t node, const Value<T>& first, const Value<T>& other) const {
  const auto text = [](const Value<T>& value) {
    return value.vector ? std::string("vectors") : "sequences of " + std::to_string(value.batch.steps) + " steps";
  };
  check(first.vector == other.vector && first.batch.steps == other.batch.steps, name_.c_str(), place(node), " joins ",
        text(first), " and ", text(other), ", expected the same of all its inputs");
  if (first.batch.lengths == other.batch.lengths) return;
  for (ptrdiff_t r = 0; r < first.batch.rows; ++r)
    check(first.batch.length(r) == other.batch.length(r), name_.c_str(), place(node),
          " joins inputs whose lengths differ: row ", r, " has ", first.batch.length(r), " and ", other.batch.length(r),
          " valid steps");
}

template <class T>
Value<T>* Graph<T>::plan(const Value<T>* inputs, Arena& memory) const {
  const char* what = name_.c_str();
  auto* values = memory.take<Value<T>>(values_.size());
  std::copy_n(inputs, inputs_, values);
  const ptrdiff_t rows = values[0].batch.rows;
  for (ptrdiff_t i = 1; i < inputs_; ++i)
    check(values[i].batch.rows == rows, what, "input ", i, " has ", values[i].batch.rows, " rows, expected ", rows,
          ", as the first one has");
  for (ptrdiff_t i = 0; i < inputs_; ++i) check_size(values[i].batch, values[i].features);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    const Layer<T>& layer = *node.layer;
    const Value<T>& first = values[node.inputs[0]];
    auto* features = memory.take<ptrdiff_t>(node.inputs.size());
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      const Value<T>& input = values[node.inputs[k]];
      features[k] = input.features;
      if (k > 0 && layer.joins()) check_joined(ptrdiff_t(i), first, input);
    }
    check(!layer.makes_sequences() || first.vector, what, place(ptrdiff_t(i)),
          " takes vectors, but reads sequences; give it a state, or the output of a layer with return_sequences=False");
    const bool vector = (first.vector && !layer.makes_sequences()) || !layer.returns_sequences();
    values[node.output] = {layer.output_batch(first.batch, memory),
                           layer.output_features(features, ptrdiff_t(node.inputs.size())),
                           vector,
                           {}};
    check_size(values[node.output].batch, values[node.output].features);
    for (size_t s = 0; s < node.specs.size(); ++s)
      values[node.output + 1 + ptrdiff_t(s)] = {
          {rows, 1, nullptr, nullptr, 0, 0}, node.specs[s].count * node.specs[s].size, true, {}};
  }
  return values;
}

template GraphSpec<float> chain(std::vector<std::shared_ptr<Layer<float>>>);
template GraphSpec<double> chain(std::vector<std::shared_ptr<Layer<double>>>);
template class Graph<float>;
template class Graph<double>;

}  // namespace recurra
