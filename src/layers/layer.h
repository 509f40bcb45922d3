// What a program runs: layers with one signature, whatever they do.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
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

// What a recorded forward of a layer keeps for its backward; then the gradient that commit() adds.
template <class T>
struct LayerTape {
  virtual ~LayerTape() = default;
};

template <class T>
struct LayerForward {
  const Batch& batch;
  ptrdiff_t features;  // of x
  Input<T> x;
  Sequence<T> y;
  StateRows<const T> state;
  StateRows<T> final_state;
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
};

template <class T>
class Layer {
 public:
  explicit Layer(const std::vector<ParameterSpec>& specs) : parameters_(std::make_shared<Parameters<T>>(specs)) {}
  virtual ~Layer() = default;

  const std::shared_ptr<Parameters<T>>& parameters() const { return parameters_; }
  virtual const char* kind() const = 0;
  virtual bool takes_tokens() const { return false; }
  virtual ptrdiff_t input_size() const = 0;               // 0: any
  virtual ptrdiff_t output_size() const = 0;              // 0: as the input
  virtual bool needs_sequences() const { return false; }  // else vectors will do
  virtual bool returns_sequences() const { return true; }
  virtual bool streamable() const { return true; }
  virtual std::vector<StateSpec> states() const { return {}; }
  ptrdiff_t state_size() const {
    ptrdiff_t n = 0;
    for (const StateSpec& s : states()) n += s.count * s.size;
    return n;
  }
  // Multiply-adds of a step of a row, roughly.
  virtual double work() const = 0;

  virtual void forward(const Run&, const LayerForward<T>&) = 0;
  // `memory` belongs to the tape.
  virtual std::unique_ptr<LayerTape<T>> record(const Run&, const LayerForward<T>&, Arena& memory) = 0;
  virtual void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Arena& memory) = 0;
  // Adds the parameters' gradient that backward() left in the tape; the caller holds the parameters' mutex.
  virtual void commit(LayerTape<T>&, int threads) = 0;

 protected:
  // A value made from the parameters, remade when their version has moved on.
  template <class V>
  struct Cached {
    std::shared_ptr<const V> value;
    uint64_t version = 0;
  };
  template <class V, class Make>
  std::shared_ptr<const V> cached(Cached<V>& cache, const Make& make) {
    const WriteLock lock(parameters_->mutex());
    const uint64_t version = parameters_->version();
    if (!cache.value || cache.version != version) {
      cache.value = make();
      cache.version = version;
    }
    return cache.value;
  }

 private:
  std::shared_ptr<Parameters<T>> parameters_;
};

// A flat gradient in a tape, for layers whose gradient has the parameters' own layout.
template <class T>
struct FlatTape : LayerTape<T> {
  T* gradient = nullptr;
};
template <class T>
T* start_gradient(FlatTape<T>& tape, const Parameters<T>& parameters, Arena& memory) {
  tape.gradient = memory.take<T>(size_t(parameters.size()));
  for (ptrdiff_t i = 0; i < parameters.size(); ++i) tape.gradient[i] = T(0);
  return tape.gradient;
}
template <class T>
void add_flat_gradient(const FlatTape<T>& tape, Parameters<T>& parameters) {
  for (ptrdiff_t i = 0; i < parameters.size(); ++i) parameters.grads()[i] += tape.gradient[i];
}

}  // namespace recurra
