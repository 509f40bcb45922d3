// Layers in a row as one native call, forwards and backwards, over buffers of its own.
#pragma once
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "layers/layer.h"

namespace recurra {

// Thrown when the stop function of a call said so; nothing the caller owns has changed.
struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("interrupted") {}
};

// What a call is given. Rows of states hold all layers' states one after the other, in the order of states().
template <class T>
struct ProgramInput {
  Batch batch;
  Input<T> x;
  StateRows<const T> state;  // data null: zeros
  Stop* stop = nullptr;
};

// Arenas that calls borrow, so that calls of the same shape stop allocating; at most a few are kept.
class ArenaPool {
 public:
  std::unique_ptr<Arena> take();
  void give_back(std::unique_ptr<Arena> arena);

 private:
  static constexpr size_t kMost = 2;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Arena>> spare_;
};

template <class T>
class ProgramStep;
template <class T>
class Tape;

template <class T>
class Program : public std::enable_shared_from_this<Program<T>> {
 public:
  Program(std::vector<std::shared_ptr<Layer<T>>> layers, std::string name);

  const std::string& name() const { return name_; }
  bool takes_tokens() const { return layers_.front()->takes_tokens(); }
  ptrdiff_t input_size() const { return input_size_; }    // 0: any
  ptrdiff_t output_size() const { return output_size_; }  // 0: as the input
  bool returns_sequences() const { return returns_sequences_; }
  bool needs_sequences() const { return needs_sequences_; }
  ptrdiff_t output_steps(ptrdiff_t steps) const;
  bool streamable() const;
  ptrdiff_t state_size() const { return state_size_; }
  struct State {
    ptrdiff_t layer;
    StateSpec spec;
    ptrdiff_t offset;  // in a row
  };
  const std::vector<State>& states() const { return states_; }
  double work(const Batch& batch) const { return work_ * double(batch.tokens()); }
  // Whether single steps of so many rows gain from a ProgramStep: they are neither shared out to threads nor
  // interrupted.
  bool prepares_step(ptrdiff_t rows) const;
  // Throws std::invalid_argument for a batch that cannot be addressed.
  void check_size(const Batch& batch, ptrdiff_t features) const;

  // `features` of x; `vector`: x has no time axis; y has output_size (or features) columns; both states must hold all
  // rows.
  void forward(const ProgramInput<T>&, ptrdiff_t features, Sequence<T> y, StateRows<T> final_state,
               Arena& scratch) const;
  std::shared_ptr<Tape<T>> record(const ProgramInput<T>&, ptrdiff_t features, bool vector, bool time_major,
                                  bool training, bool input_grad, uint64_t seed);

  ArenaPool& scratch() { return scratch_; }

 private:
  friend class Tape<T>;
  friend class ProgramStep<T>;
  Run run(const ProgramInput<T>&, Arena& scratch, bool training, uint64_t seed) const;
  Run layer_run(const Run&, size_t layer) const;  // a distinct seed for each layer

  std::vector<std::shared_ptr<Layer<T>>> layers_;
  std::vector<State> states_;
  std::vector<ptrdiff_t> state_offsets_;
  std::string name_;
  ptrdiff_t input_size_ = 0, output_size_ = 0, largest_ = 0, state_size_ = 0;
  bool needs_sequences_ = false, returns_sequences_ = true;
  double work_ = 0;
  ArenaPool scratch_, tapes_;
};

// A recorded forward. It owns all that its backward needs: the inputs too, so that what the caller does to them later
// changes nothing.
template <class T>
class Tape {
 public:
  // The output and the final state; they keep the memory alive. Null memory: the tape is closed.
  struct Memory {
    std::shared_ptr<Program<T>> program;
    std::unique_ptr<Arena> arena;
    ~Memory();
  };
  const std::shared_ptr<Memory>& memory() const { return memory_; }
  const Program<T>& program() const { return *program_; }
  Sequence<const T> y() const { return read_only(y_); }
  const Batch& batch() const { return batch_; }
  const Batch& output_batch() const { return output_batch_; }
  ptrdiff_t features() const { return features_; }
  ptrdiff_t output_features() const { return output_features_; }
  bool input_grad() const { return input_grad_; }
  bool time_major() const { return time_major_; }
  bool vector() const { return vector_; }  // the input has no time axis
  bool output_vector() const { return vector_ || !program_->returns_sequences(); }
  const T* final_state() const { return final_state_; }
  size_t bytes() const { return memory_ ? memory_->arena->used() : 0; }
  bool closed() const { return !memory_; }
  void close();
  double work() const { return program_->work(batch_); }

  // Throws std::invalid_argument if it was used or closed or the weights have changed. Adds to the layers' gradients
  // only when all is done.
  void backward(Sequence<const T> dy, StateRows<const T> dfinal, Sequence<T> dx, StateRows<T> dstate, Stop* stop);

 private:
  friend class Program<T>;
  struct Step {
    Batch batch;
    ptrdiff_t features;
    Input<T> x;
    Sequence<T> y;
    std::unique_ptr<LayerTape<T>> tape;
    uint64_t version;
  };

  std::shared_ptr<Program<T>> program_;
  std::shared_ptr<Memory> memory_;
  std::vector<Step> steps_;
  Batch batch_ = {}, output_batch_ = {};
  ptrdiff_t features_ = 0, output_features_ = 0;
  Sequence<T> y_ = {};
  StateRows<const T> state_ = {};
  T* final_state_ = nullptr;
  bool vector_ = false, time_major_ = false, training_ = true, input_grad_ = true;
  uint64_t seed_ = 0;
  std::mutex mutex_;
  bool used_ = false;
};

}  // namespace recurra
