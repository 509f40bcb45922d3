// The interface of layers, which a program runs.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device/device.h"
#include "layers/parameters.h"

namespace recurra {

// A layer's input: features, or tokens (for an embedding).
template <class T>
struct Input {
  Sequence<const T> features;
  Sequence<const int64_t> tokens;
};

// One array of a layer's state: `count` (layers * directions) times `size` values for each row.
struct StateSpec {
  const char* name;
  ptrdiff_t count, size;
};

// The recurrent stack inside a layer's tape, for diagnosis.
template <class T>
struct RecurrentPart {
  RecurrentTape<T>* tape;  // null without one
  const RecurrentSpec* spec;
  const int32_t* order;  // the caller's row for each of its rows; null if they are the same
};

// The saved values of a layer's recorded forward; after backward, also the gradient that commit() adds.
template <class T>
struct LayerTape {
  virtual ~LayerTape() = default;
  virtual RecurrentPart<T> recurrent() const { return {}; }
  // A number that backward needs beside the arrays.
  virtual int64_t number() const { return 0; }
  virtual void set_number(int64_t) {}
};

// A tape with a flat gradient, laid out as the parameters.
template <class T>
struct FlatTape : LayerTape<T> {
  T* gradient = nullptr;
};

// A further input of a layer, such as attention's memory: with the same rows, but its own steps and lengths.
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
  size_t tape_bytes = size_t(-1);  // for record(): bound on the tape's memory, backward included
};

template <class T>
struct LayerBackward {
  const Batch& batch;
  ptrdiff_t features;
  Input<T> x;
  Sequence<const T> dy;  // data null: there is no gradient of y
  Sequence<T> dx;        // data null: not wanted
  StateRows<const T> state, dfinal;
  StateRows<T> dstate;
  const OtherInput<T>* others = nullptr;   // [other_count]
  const Sequence<T>* others_dx = nullptr;  // [other_count], data null: not wanted
  ptrdiff_t other_count = 0;
};

// The arguments of a layer's prepared step: an embedding reads the tokens, other layers x.
template <class T>
struct LayerStepCall : StepCall<T> {
  Sequence<const int64_t> tokens;
  const OtherInput<T>* others = nullptr;  // [other_count]
  ptrdiff_t other_count = 0;
  Stop* stop = nullptr;  // of a search, whose steps may be long; once requested, the output is undefined
};

// Single steps of a layer, prepared once, as in RecurrentStep.
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

  // The device of its computations and parameters.
  const Devices& devices() const { return parameters_->devices(); }
  const Device<T>& device() const { return parameters_->device(); }

  const std::shared_ptr<Parameters<T>>& parameters() const { return parameters_; }
  // The versions of all weights that a call reads.
  virtual std::vector<const Version*> versions() const { return {&parameters_->versions()}; }
  virtual const char* kind() const = 0;
  virtual ptrdiff_t inputs() const { return 1; }  // 0: any number
  // Whether all inputs share one time axis, with equal lengths, or are all vectors; otherwise each further input is a
  // sequence with its own time axis.
  virtual bool joins() const { return false; }
  virtual bool takes_tokens() const { return false; }
  virtual ptrdiff_t input_size() const = 0;                              // 0: any
  virtual ptrdiff_t other_size(ptrdiff_t /*index*/) const { return 0; }  // 0: any
  virtual ptrdiff_t output_size() const = 0;                             // 0: depends on the inputs
  virtual bool needs_sequences() const { return false; }                 // else it takes vectors too
  // Features of the output, given those of each input; 0 if unknown.
  virtual ptrdiff_t output_features(const ptrdiff_t* features, ptrdiff_t /*inputs*/) const {
    return output_size() ? output_size() : features[0];
  }
  virtual bool returns_sequences() const { return true; }
  virtual bool makes_sequences() const { return false; }  // from vectors
  // The output's batch, for an input of `batch`; its arrays are taken from the arena.
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
  // Multiply-adds per row and step, roughly.
  virtual double work() const = 0;
  // Further multiply-adds per row, step and step of the second input.
  virtual double work_per_memory_step() const { return 0; }
  // Multiply-adds of a call; `memory` is the second input, null without one.
  double work(const Batch& batch, const Batch* memory) const {
    const double each = work_per_memory_step();
    double pairs = 0;
    for (ptrdiff_t r = 0; each > 0 && r < batch.rows; ++r) pairs += double(batch.length(r)) * double(memory->length(r));
    return work() * double(batch.tokens()) + each * pairs;
  }

  virtual void forward(const Run&, const LayerForward<T>&) = 0;
  // Prepares steps of at most `rows` rows with `features` features. The layer must outlive the result. By default, a
  // step is a forward.
  virtual std::unique_ptr<LayerStep<T>> prepare_step(ptrdiff_t rows, ptrdiff_t features);
  // Takes the arrays of a tape, which record() fills. Reads nothing but sizes, lengths and whether data are null, as it
  // also counts a tape's bytes, and finds a recorded tape again in a block.
  virtual std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool /*training*/, Memory&) const {
    return std::make_unique<FlatTape<T>>();
  }
  // A forward that saves in the tape what backward() needs beside its call.
  virtual void record(const Run& run, const LayerForward<T>& call, LayerTape<T>&) { forward(run, call); }
  // The tape's memory that take_tape() and backward() take.
  virtual TapeBytes tape_bytes(const LayerForward<T>& call, bool training) const {
    Memory count = Memory::counting();
    take_tape(call, training, count);
    count_gradient(call, count);
    return {count.used(), count.used()};
  }
  // Changes of the layer itself by a recorded forward. Called once the whole program is recorded, so that a forward
  // that fails or is interrupted changes nothing.
  virtual void recorded(const LayerTape<T>&) {}
  // What is on the tape is only read; the parameters' gradient is left in `memory`, which lives as long.
  virtual void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) = 0;
  // Adds the parameters' gradient that backward() left in the tape; the caller holds the mutex of `to`.
  virtual void commit(LayerTape<T>&, Gradient<T>&, int threads) = 0;

 protected:
  // Takes the memory of backward() from a counting arena.
  virtual void count_gradient(const LayerForward<T>&, Memory& count) const {
    if (parameters_->size()) count.device.take<T>(size_t(parameters_->size()));
  }

  // Hands an expiring value's memory to its replacement.
  struct Heir {
    std::mutex mutex;
    Arena* memory = nullptr;
    void set(Arena* to) {
      const ForkSafe<std::lock_guard<std::mutex>> lock(mutex);
      memory = to;
    }
  };
  // A value with its own `memory`, made from the parameters and remade when their version has changed.
  template <class V>
  struct Cached {
    std::shared_ptr<const V> value;
    uint64_t version = 0;
    std::shared_ptr<Heir> heir;
    bool is_of(const Parameters<T>& parameters) const { return value && version == parameters.version(); }
  };
  // Brings the cache up to date and returns a copy, valid without a lock while is_of() holds. A new value is made by
  // make(memory), which reuses the old value's memory if that has no other owner: page faults of a fresh large array
  // cost as much as writing it.
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

// A step as a forward of a batch with one step.
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

// Takes the parameters' gradient, zeroed; null if there are none.
template <class T>
T* start_gradient(FlatTape<T>& tape, const Parameters<T>& parameters, Memory& memory) {
  if (!parameters.size()) return nullptr;
  tape.gradient = memory.device.take<T>(size_t(parameters.size()));
  fill_flat(parameters.device(), tape.gradient, parameters.size(), T(0));
  return tape.gradient;
}

}  // namespace recurra
