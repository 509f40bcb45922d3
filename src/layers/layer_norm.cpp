#include "layers/layer_norm.h"

#include "layers/affine.h"

namespace recurra {
namespace {

// Mean and 1 / standard deviation of each step.
template <class T>
Sequence<T> take_statistics(const Batch& batch, Arena& memory) {
  return take_sequence<T>(memory, batch, 2);
}

}  // namespace

template <class T>
struct LayerNorm<T>::Tape : FlatTape<T> {
  Sequence<T> statistics;
};

template <class T>
LayerNorm<T>::LayerNorm(const Devices& devices, ptrdiff_t features, double eps, bool affine)
    : Layer<T>(devices, affine_specs("LayerNorm", features, affine)), features_(features), eps_(T(eps)) {
  check(eps > 0, "LayerNorm", "eps is ", eps, ", expected a number above 0");
}

template <class T>
void LayerNorm<T>::normalise(const Run& run, const LayerForward<T>& call, Sequence<T> statistics) {
  const Affine<T> affine = affine_of(*this->parameters(), features_, run.arena);
  run.device<T>().layer_norm(run, call.batch, features_, eps_, affine.gain, affine.shift, call.x.features, call.y,
                             statistics);
}

template <class T>
void LayerNorm<T>::forward(const Run& run, const LayerForward<T>& call) {
  normalise(run, call, take_statistics<T>(call.batch, run.arena));
}

template <class T>
std::unique_ptr<LayerTape<T>> LayerNorm<T>::take_tape(const LayerForward<T>& call, bool, Memory& memory) const {
  auto tape = std::make_unique<Tape>();
  tape->statistics = take_statistics<T>(call.batch, memory.device);
  return tape;
}

template <class T>
void LayerNorm<T>::record(const Run& run, const LayerForward<T>& call, LayerTape<T>& tape) {
  normalise(run, call, static_cast<Tape&>(tape).statistics);
}

template <class T>
void LayerNorm<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& any_tape, Memory& memory) {
  auto& tape = static_cast<Tape&>(any_tape);
  const Affine<T> gradient = start_affine_gradient(tape, *this->parameters(), features_, memory, run.arena);
  if (!call.dy.data) return;
  const Affine<T> affine = affine_of(*this->parameters(), features_, run.arena);
  run.device<T>().layer_norm_gradient(run, call.batch, features_, affine.gain, read_only(tape.statistics),
                                      call.x.features, call.dy, call.dx, gradient.gain, gradient.shift);
}

template <class T>
void LayerNorm<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int) {
  to.add(static_cast<Tape&>(tape).gradient);
}

template class LayerNorm<float>;
template class LayerNorm<double>;

}  // namespace recurra
