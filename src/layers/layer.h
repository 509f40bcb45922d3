// What a program runs: layers with one signature, whatever they do.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device/device.h"
#include "layers/parameters.h"

namespace recurra {

// What a layer reads: features, or tokens (an embedding).
template <class T>
struct Input {
  Sequence<const T> features;
  Sequence<const int64_t> tokens;
};

// One array of a layer's state: `count` (layers * directions) times `size` values of a row.
struct StateSpec {
  const char* name;
  ptrdiff_t count, size;
};

// The recurrent stack inside a layer's tape, for diagnosis.
template <class T>
struct RecurrentPart {
  RecurrentTape<T>* tape;  // null: there is none
  const RecurrentSpec* spec;
  const int32_t* order;  // the caller's row of each of its rows; null: the same
};

// What a recorded forward of a layer keeps for its backward; then the gradient that commit() adds.
template <class T>
struct LayerTape {
  virtual ~LayerTape() = default;
  virtual RecurrentPart<T> recurrent() const { return {}; }
};

// What a layer of several inputs reads beside the first, such as the memory that attention looks at: the same rows,
// with steps and lengths of its own.
template <class T>
struct OtherInput {
  Batch batch;
  ptrdiff_t features;
  Sequence<const T> x;
};

template <class T>
struct LayerForward {
  const Batch& batch;
  ptrdiff_t features;  // of x
  Input<T> x;
  Sequence<T> y;
  StateRows<const T> state;
  StateRows<T> final_state;
  const OtherInput<T>* others = nullptr;  // [other_count]
  ptrdiff_t other_count = 0;
  size_t tape_bytes = size_t(-1);  // of record(): what it may take of the tape's memory, with its backward
};

template <class T>
struct LayerBackward {
  const Batch& batch;
  ptrdiff_t features;
  Input<T> x;
  Sequence<const T> dy;  // data null: no gradient comes in
  Sequence<T> dx;        // data null: not wanted
  StateRows<const T> state, dfinal;
  StateRows<T> dstate;
  const OtherInput<T>* others = nullptr;   // [other_count]
  const Sequence<T>* others_dx = nullptr;  // [other_count], data null: not wanted
  ptrdiff_t other_count = 0;
};

// What a prepared step of a layer is given: an embedding reads the tokens, other layers x.
template <class T>
struct LayerStepCall : StepCall<T> {
  Sequence<const int64_t> tokens;
  const OtherInput<T>* others = nullptr;  // [other_count]
  ptrdiff_t other_count = 0;
  Stop* stop = nullptr;  // of a search, whose steps may be long; once it is requested the output is of no use
};

// Single steps of a layer, prepared once: as RecurrentStep.
template <class T>
class LayerStep {
 public:
  virtual ~LayerStep() = default;
  virtual void run(const LayerStepCall<T>&) = 0;
};

template <class T>
class Layer {
 public:
  explicit Layer(const Devices& devices, const std::vector<ParameterSpec>& specs = {})
      : parameters_(std::make_shared<Parameters<T>>(devices, specs)) {}
  virtual ~Layer() = default;

  // Where it computes, and its parameters live.
  const Devices& devices() const { return parameters_->devices(); }
  const Device<T>& device() const { return parameters_->device(); }

  const std::shared_ptr<Parameters<T>>& parameters() const { return parameters_; }
  // Of all that a call reads.
  virtual std::vector<const Version*> versions() const { return {&parameters_->versions()}; }
  virtual const char* kind() const = 0;
  virtual ptrdiff_t inputs() const { return 1; }  // 0: any number
  // Whether its inputs are one sequence of several parts: equal steps and lengths, or vectors all of them. If not, the
  // others are sequences with time axes of their own.
  virtual bool joins() const { return false; }
  virtual bool takes_tokens() const { return false; }
  virtual ptrdiff_t input_size() const = 0;                              // 0: any
  virtual ptrdiff_t other_size(ptrdiff_t /*index*/) const { return 0; }  // 0: any
  virtual ptrdiff_t output_size() const = 0;                             // 0: it depends on the inputs
  virtual bool needs_sequences() const { return false; }                 // else vectors will do
  // Features of the output for inputs with so many, 0 where that is not known.
  virtual ptrdiff_t output_features(const ptrdiff_t* features, ptrdiff_t /*inputs*/) const {
    return output_size() ? output_size() : features[0];
  }
  virtual bool returns_sequences() const { return true; }
  virtual bool makes_sequences() const { return false; }  // of vectors
  // Rows and steps of the output, for an input of `batch`; what it needs beyond that lives in `memory`.
  virtual Batch output_batch(const Batch& batch, Arena&) const {
    return returns_sequences() ? batch : Batch{batch.rows, 1, nullptr, nullptr, 0, 0};
  }
  virtual bool streamable() const { return true; }
  virtual std::vector<StateSpec> states() const { return {}; }
  ptrdiff_t state_size() const {
    ptrdiff_t n = 0;
    for (const StateSpec& s : states()) n += s.count * s.size;
    return n;
  }
  // Multiply-adds of a step of a row, roughly.
  virtual double work() const = 0;
  // What is added to that for every step of the second input.
  virtual double work_per_memory_step() const { return 0; }
  // Of a call; `memory`: the second input, null if there is none.
  double work(const Batch& batch, const Batch* memory) const {
    const double each = work_per_memory_step();
    double pairs = 0;
    for (ptrdiff_t r = 0; each > 0 && r < batch.rows; ++r) pairs += double(batch.length(r)) * double(memory->length(r));
    return work() * double(batch.tokens()) + each * pairs;
  }

  virtual void forward(const Run&, const LayerForward<T>&) = 0;
  // For batches of at most `rows` rows with so many features. The layer outlives it. Unless there is something to
  // prepare, a step is a forward.
  virtual std::unique_ptr<LayerStep<T>> prepare_step(ptrdiff_t rows, ptrdiff_t features);
  // `memory` belongs to the tape.
  virtual std::unique_ptr<LayerTape<T>> record(const Run&, const LayerForward<T>&, Memory& memory) = 0;
  // What record() and backward() take of the tape's memory. Nothing is read but sizes and lengths.
  virtual TapeBytes tape_bytes(const LayerForward<T>& call, bool /*training*/) const {
    Memory count = Memory::counting();
    count_tape(call, count);
    return {count.used(), count.used()};
  }
  // Called once the whole program is recorded: what a recorded forward changes in the layer itself, so that one which
  // fails or is interrupted changes nothing.
  virtual void recorded(const LayerTape<T>&) {}
  virtual void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) = 0;
  // Adds the parameters' gradient that backward() left in the tape; the caller holds the mutex of `to`.
  virtual void commit(LayerTape<T>&, Gradient<T>&, int threads) = 0;

 protected:
  // Takes the same from an arena that only counts.
  virtual void count_tape(const LayerForward<T>&, Memory& count) const {
    if (parameters_->size()) count.device.take<T>(size_t(parameters_->size()));  // their gradient
  }

  // Where a value that dies leaves its memory, while there is somebody who takes it.
  struct Heir {
    std::mutex mutex;
    Arena* memory = nullptr;
    void set(Arena* to) {
      const ForkSafe<std::lock_guard<std::mutex>> lock(mutex);
      memory = to;
    }
  };
  // A value made from the parameters, with `memory` of its own, remade when their version has moved on.
  template <class V>
  struct Cached {
    std::shared_ptr<const V> value;
    uint64_t version = 0;
    std::shared_ptr<Heir> heir;
    bool is_of(const Parameters<T>& parameters) const { return value && version == parameters.version(); }
  };
  // A copy of the cache, up to date. Whoever keeps it may go on for as long as is_of() says so, without a lock. A new
  // value is made as make(memory), with that of the old one if nobody else looks at it any more: pages that are in use
  // cost nothing, those of a fresh large array as much as what is written there.
  template <class V, class Make>
  Cached<V> cached(Cached<V>& cache, const Make& make) {
    const WriteLock lock(parameters_->mutex());
    const uint64_t version = parameters_->version();
    if (cache.value && cache.version == version) return cache;
    if (!cache.heir) cache.heir = std::make_shared<Heir>();
    Arena memory(devices().memory);
    cache.heir->set(&memory);
    cache.value.reset();
    cache.heir->set(nullptr);
    memory.reset();
    const auto leave = [heir = cache.heir](V* value) {
      {
        const ForkSafe<std::lock_guard<std::mutex>> lock(heir->mutex);
        if (heir->memory) *heir->memory = std::move(value->memory);
      }
      delete value;
    };
    cache.value = std::shared_ptr<const V>(make(std::move(memory)).release(), leave);
    cache.version = version;
    return cache;
  }

 private:
  std::shared_ptr<Parameters<T>> parameters_;
};

// A step that is a forward of a batch with a single step.
template <class T>
class ForwardStep : public LayerStep<T> {
 public:
  ForwardStep(const Devices& devices, ptrdiff_t features) : devices_(devices), features_(features), scratch_(devices) {}
  void run(const LayerStepCall<T>& call) final {
    if (scratch_.used()) scratch_.reset();
    const Batch batch = {call.rows, 1, nullptr, call.reset, call.reset_row, 0};
    forward({devices_, scratch_.device, scratch_.host, 1, call.stop, false, {}},
            {batch,
             features_,
             {{call.x, call.x_row, call.x_row}, call.tokens},
             {call.y, call.y_row, call.y_row},
             call.state,
             call.final_state,
             call.others,
             call.other_count});
  }

 private:
  virtual void forward(const Run&, const LayerForward<T>&) = 0;

  const Devices& devices_;
  ptrdiff_t features_;
  Memory scratch_;
};

template <class T>
std::unique_ptr<LayerStep<T>> Layer<T>::prepare_step(ptrdiff_t, ptrdiff_t features) {
  class Step final : public ForwardStep<T> {
   public:
    Step(Layer& layer, ptrdiff_t features) : ForwardStep<T>(layer.devices(), features), layer_(layer) {}

   private:
    void forward(const Run& run, const LayerForward<T>& call) override { layer_.forward(run, call); }
    Layer& layer_;
  };
  return std::make_unique<Step>(*this, features);
}

// A flat gradient in a tape, for layers whose gradient has the parameters' own layout.
template <class T>
struct FlatTape : LayerTape<T> {
  T* gradient = nullptr;
};
template <class T>
T* start_gradient(FlatTape<T>& tape, const Parameters<T>& parameters, Memory& memory) {
  tape.gradient = memory.device.take<T>(size_t(parameters.size()));
  fill_flat(parameters.device(), tape.gradient, parameters.size(), T(0));
  return tape.gradient;
}

}  // namespace recurra
