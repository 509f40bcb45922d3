// A graph of layers as one native call, forwards and backwards, over buffers of its own.
#pragma once
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "layers/gradient_buffer.h"
#include "program/graph.h"

namespace recurra {

// Thrown when the stop function of a call said so; nothing the caller owns has changed.
struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("interrupted") {}
};

// What a call is given. Rows of states hold all own states of the nodes one after the other, in the order of states().
template <class T>
struct ProgramInput {
  const Value<T>* inputs;
  StateRows<const T> state;  // data null: zeros
  Stop* stop = nullptr;
};

// Memory that calls borrow, so that calls of the same shape stop allocating; at most a few are kept.
class MemoryPool {
 public:
  explicit MemoryPool(const Devices& devices) : devices_(devices) {}
  std::unique_ptr<Memory> take();
  void give_back(std::unique_ptr<Memory> memory);

 private:
  const Devices& devices_;
  static constexpr size_t kMost = 2;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Memory>> spare_;
};

template <class T>
class ProgramStep;
template <class T>
class Tape;

struct RecordOptions {
  bool time_major = false;           // of sequences among the outputs
  bool training = true;              // whether dropout is on
  const bool* input_grad = nullptr;  // for each input, whether its gradient is wanted; null: none is
  RandomRows random = {};
  // Bytes that the tape may hold, its backward included. Recurrent layers keep less for it and make the rest again.
  size_t memory_budget = size_t(-1);
  bool finishes = true;  // false: the tape's finish() comes when all is recorded that belongs together
};

// Memory of the caller's for a whole tape, which then holds all that its backward needs, in a form that does not depend
// on where it lies: bytes to copy, move and open again, also several times. It is only read after record().
struct TapeBlock {
  char* data = nullptr;  // at a multiple of Arena::kAlignment; null: the tape has memory of its own
  size_t size = 0;
  uint64_t signature = 0;             // of the model: open() expects the same
  std::shared_ptr<const void> owner;  // lives as long as the tape
};

template <class T>
class Program : public std::enable_shared_from_this<Program<T>> {
 public:
  Program(const GraphSpec<T>& graph, std::string name);
  // Layers one after the other.
  Program(std::vector<std::shared_ptr<Layer<T>>> layers, std::string name)
      : Program(chain(std::move(layers)), std::move(name)) {}

  const Graph<T>& graph() const { return graph_; }
  const std::string& name() const { return graph_.name(); }
  const Devices& devices() const { return devices_; }
  ptrdiff_t state_size() const { return graph_.state_size(); }
  // The most rows whose single steps gain from a ProgramStep, as they are neither shared out to threads nor
  // interrupted; -1: none do.
  ptrdiff_t prepared_rows() const;

  // Of the layers' weights.
  const std::vector<const Version*>& versions() const { return versions_; }

  // `values`: what graph().plan() has made of the inputs. y, for each output, and the final state hold all rows. As
  // record(), throws WeightsMoved where another thread has written weights meanwhile: then it is to be called again.
  void forward(const ProgramInput<T>&, Value<T>* values, const Sequence<T>* y, StateRows<T> final_state,
               Memory& scratch) const;
  std::shared_ptr<Tape<T>> record(const ProgramInput<T>&, const RecordOptions&, const TapeBlock& = {});
  // The size of a block for such a tape. Of the inputs only sizes and lengths are read, and whether there are resets
  // and a state. Without a budget it is enough for any lengths if they are null.
  size_t tape_bytes(const ProgramInput<T>&, const RecordOptions&) const;
  // A tape that record() has left in such a block, or a copy of it. Throws std::invalid_argument unless it is one of
  // this program with these weights.
  std::shared_ptr<Tape<T>> open(const TapeBlock&);

  MemoryPool& scratch() { return scratch_; }

 private:
  friend class Tape<T>;
  typedef typename Graph<T>::Node Node;

  Run run(double work, Stop*, Memory& scratch, bool training, const RandomRows&) const;
  Run node_run(const Run&, size_t node) const;  // a distinct seed for each node
  LayerForward<T> node_call(size_t node, Value<T>* values, Sequence<T> y, StateRows<const T> state,
                            StateRows<T> final_state, Memory& memory) const;
  // What each node may take of a tape that holds so many bytes already, and the outputs.
  std::vector<size_t> share_budget(const Value<T>* values, StateRows<const T> state, size_t held,
                                   const RecordOptions&) const;
  void begin_node(size_t node, const Value<T>* values, const LayerForward<T>&, StateRows<const T> state) const;
  void finish_node(size_t node, const LayerForward<T>&, StateRows<T> final_state) const;
  void finish_output(size_t output, const Value<T>* values, Sequence<T> y) const;
  std::shared_ptr<Tape<T>> new_tape(std::unique_ptr<Memory>, const TapeBlock&);
  // Finds the places of all that a tape holds.
  void lay_out(Tape<T>&, const ProgramInput<T>&, const RecordOptions&, Memory&) const;
  uint64_t weights_digest() const;

  Graph<T> graph_;
  const Devices& devices_;  // of all layers
  std::vector<const Version*> versions_;
  MemoryPool scratch_, tapes_;
};

// A gradient of a layer's parameters that its output's does not tell, as a CRF's loss gives it: the whole flat buffer.
template <class T>
struct ParameterGradient {
  Parameters<T>* parameters;
  const T* gradient;
};

// A recorded forward. It owns all that its backward needs: the inputs too, so that what the caller does to them later
// changes nothing.
template <class T>
class Tape {
 public:
  // The outputs and the final state; they keep the memory alive. Null memory: the tape is closed.
  struct Owned {
    std::shared_ptr<Program<T>> program;
    std::unique_ptr<Memory> memory;
    // If the tape lies in a block: that, and memory for backward.
    TapeBlock block;
    std::unique_ptr<Memory> backward;
    ~Owned();
  };
  ~Tape();
  const std::shared_ptr<Owned>& memory() const { return memory_; }
  const Program<T>& program() const { return *program_; }
  // Inputs and outputs; of an output, x.features holds it.
  const Value<T>& input(ptrdiff_t i) const { return values_[i]; }
  const Value<T>& output(ptrdiff_t i) const { return outputs_[i]; }  // while the memory is there
  ptrdiff_t rows() const { return values_[0].batch.rows; }
  bool input_grad(ptrdiff_t i) const { return wanted_[i]; }
  bool time_major() const { return time_major_; }
  const T* final_state() const { return final_state_; }
  size_t bytes() const {
    return memory_ ? memory_->memory->used() + (memory_->backward ? memory_->backward->used() : 0) : 0;
  }
  bool closed() const { return !memory_; }
  bool used() const { return used_; }
  void close();
  // What a recorded forward changes in the layers themselves, once. Throws std::invalid_argument if closed or used.
  void finish();
  double work() const { return work_; }

  // Held by close() and backward(), and over all that reads what a backward pass writes. Throws std::invalid_argument
  // while another thread uses the tape.
  class Use {
   public:
    explicit Use(Tape& tape);
    ~Use() { turn_.end(); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Turn& turn_;
  };

  // For diagnosis. A node's recurrent stack, if it has one, and the batch it saw; the tape must be open.
  RecurrentPart<T> recurrent(size_t node) const { return steps_[node].tape->recurrent(); }
  const Batch& node_batch(size_t node) const { return steps_[node].call.batch; }
  // Asked for before backward(): the norms of the gradients of h, [node][layer, direction][row][step], in the rows'
  // order of its RecurrentPart.
  void keep_gradient_norms();
  const std::vector<std::vector<double>>& gradient_norms() const { return gradient_norms_; }

  // dy for each output (data null: none), dx for each input (data null: not wanted). Throws std::invalid_argument if it
  // was used or closed, if the weights have changed, or if `to` lacks a buffer. Adds to the gradients only when all is
  // done, and what else there is for them, `more`, then; with `commits` false not even then, but in commit().
  void backward(const Sequence<const T>* dy, StateRows<const T> dfinal, const Sequence<T>* dx, StateRows<T> dstate,
                Stop* stop, const GradientBuffers<T>* to = nullptr, const std::vector<ParameterGradient<T>>& more = {},
                bool commits = true);
  // Throws as backward() does, unless that has run and its gradients wait to be added.
  void check_pending(const GradientBuffers<T>* to) const;
  void commit(const GradientBuffers<T>* to);

 private:
  friend class Program<T>;
  struct Step {
    LayerForward<T> call;
    std::unique_ptr<LayerTape<T>> tape;
    uint64_t version;
  };
  class Gradients;
  void abandon();
  Memory& backward_memory();
  void check_versions() const;
  void check_buffers(const GradientBuffers<T>* to) const;
  void add_gradients(const GradientBuffers<T>* to);
  StateRows<const T> final_gradient(size_t node, const Gradients&, StateRows<const T> dfinal, Arena& scratch) const;
  bool backward_node(size_t node, Gradients&, StateRows<const T> dfinal, StateRows<T> dstate, const Run&, Memory&);

  std::shared_ptr<Program<T>> program_;
  std::shared_ptr<Owned> memory_;
  std::vector<Step> steps_;
  // In the memory: all values, the outputs, which values' gradients matter, the initial and the final state.
  const Value<T>* values_ = nullptr;
  const Value<T>* outputs_ = nullptr;
  const bool* wanted_ = nullptr;
  StateRows<T> state_ = {};
  T* final_state_ = nullptr;
  Memory::Mark recorded_ = {};  // where backward's own memory begins
  double work_ = 0;
  bool time_major_ = false, training_ = true;
  RandomRows random_ = {};
  std::vector<std::vector<double>> gradient_norms_;
  mutable Turn turn_;
  std::vector<bool> ran_;  // [node]: whether backward() has made a gradient
  int threads_ = 1;        // of that backward
  bool used_ = false, pending_ = false, finished_ = false;
};

}  // namespace recurra
