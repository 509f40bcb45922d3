// Layers and the values that pass between them, checked once, whatever will be fed to them.
#pragma once
#include <string>
#include <vector>

#include "layers/layer.h"

namespace recurra {

// Whether an input's rows have a time axis.
enum class Axis { kEither, kSequence, kVector };

struct InputSpec {
  Axis axis = Axis::kEither;
  ptrdiff_t features = 0;  // or the number of different tokens; 0: what the layers say, or any
};

// A state of a node that begins as the program's own state says, rather than as a value.
constexpr ptrdiff_t kOwnState = -1;

// A layer at work. The same layer may be in several nodes. Values are numbered: the program's inputs, then for each
// node its output and its final states, which are vectors.
template <class T>
struct NodeSpec {
  std::shared_ptr<Layer<T>> layer;
  std::vector<ptrdiff_t> inputs;
  // For each of the layer's the vector that it begins with, or kOwnState; none given: all are.
  std::vector<ptrdiff_t> states = {};
};

// Nodes in an order in which each finds its inputs made.
template <class T>
struct GraphSpec {
  std::vector<InputSpec> inputs;
  std::vector<NodeSpec<T>> nodes;
  std::vector<ptrdiff_t> outputs;  // values, each once, none an input
};

// Layers one after the other.
template <class T>
GraphSpec<T> chain(std::vector<std::shared_ptr<Layer<T>>> layers);

// What is fed to a program or passed between its nodes in a call.
template <class T>
struct Value {
  Batch batch;
  ptrdiff_t features;  // 1 for tokens
  bool vector;         // a row has no time axis
  Input<T> x;
};

template <class T>
class Graph {
 public:
  struct Node {
    std::shared_ptr<Layer<T>> layer;
    std::vector<ptrdiff_t> inputs, states;
    std::vector<StateSpec> specs;
    ptrdiff_t output;             // its first state is output + 1
    ptrdiff_t state_size;         // of all its states
    bool feeds_states;            // whether some of its states begin as values
    std::vector<ptrdiff_t> last;  // the nodes' outputs that nobody reads after it
    double work;
  };
  // A state that is the program's own.
  struct State {
    ptrdiff_t node;
    StateSpec spec;
    ptrdiff_t offset;  // in a row of the program's state
    ptrdiff_t within;  // in a row of the node's
  };
  struct ValueInfo {
    ptrdiff_t features = 0;  // 0: known only in a call
    Axis axis = Axis::kEither;
    bool needs_sequences = false;
    bool tokens = false;
    bool is_read = false;
    ptrdiff_t node = -1;    // which makes it, -1: an input
    ptrdiff_t output = -1;  // which output of the program it is
  };

  Graph(const GraphSpec<T>&, std::string name);

  const std::string& name() const { return name_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<ValueInfo>& values() const { return values_; }
  ptrdiff_t inputs() const { return inputs_; }
  const std::vector<ptrdiff_t>& outputs() const { return outputs_; }
  const ValueInfo& output(ptrdiff_t i) const { return values_[size_t(outputs_[size_t(i)])]; }
  const std::vector<State>& states() const { return states_; }
  ptrdiff_t state_size() const { return state_size_; }
  // Where a node's own states begin in a row of the program's; they lie side by side.
  ptrdiff_t state_offset(size_t node) const { return state_offsets_[node]; }
  // Whether steps can be taken one by one: by layers that can, each from its own state.
  bool streamable() const;
  // Throws std::invalid_argument for a batch that cannot be addressed.
  void check_size(const Batch&, ptrdiff_t features) const;

  // All values of a call with these inputs but for their data; what that needs lives in `memory`. Throws
  // std::invalid_argument where inputs do not fit each other.
  Value<T>* plan(const Value<T>* inputs, Arena& memory) const;
  double work(const Value<T>* values) const;  // of a call, in multiply-adds, roughly
  double work_per_step() const;

 private:
  void add_node(const NodeSpec<T>&);
  void check_inputs(const Node&, const std::string& place);
  void require(ptrdiff_t value, ptrdiff_t features);
  ptrdiff_t output_features(const Node&) const;
  void find_features();
  void find_axes();
  void find_lasts();
  std::string place(ptrdiff_t node) const;
  void check_joined(ptrdiff_t node, const Value<T>& first, const Value<T>& other) const;

  std::string name_;
  std::vector<Node> nodes_;
  std::vector<ValueInfo> values_;
  ptrdiff_t inputs_ = 0;
  std::vector<ptrdiff_t> outputs_;
  std::vector<State> states_;
  std::vector<ptrdiff_t> state_offsets_;
  ptrdiff_t state_size_ = 0, largest_ = 1;
};

}  // namespace recurra
