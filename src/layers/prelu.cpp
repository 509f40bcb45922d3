#include "layers/prelu.h"

#include "layers/channels.h"

namespace recurra {
namespace {

std::vector<ParameterSpec> slope_specs(ptrdiff_t channels) {
  check_channels("PReLU", "num_parameters", channels);
  return {{"weight", {channels}}};
}

}  // namespace

template <class T>
PRelu<T>::PRelu(const Devices& devices, ptrdiff_t num_parameters)
    : Layer<T>(devices, slope_specs(num_parameters)), channels_(num_parameters) {}

template <class T>
ptrdiff_t PRelu<T>::output_features(const ptrdiff_t* features, ptrdiff_t) const {
  check_positions("PReLU", "num_parameters", features[0], channels_);
  return features[0];
}

// A copy of one version of the parameters, one for each feature.
template <class T>
const T* PRelu<T>::slopes(Arena& memory, ptrdiff_t features) const {
  T* const made = memory.take<T>(size_t(features));
  const ReadLock lock(this->parameters()->mutex());
  spread<T>(this->device(), this->parameters()->values(), channels_, features, made);
  return made;
}

template <class T>
void PRelu<T>::forward(const Run& run, const LayerForward<T>& call) {
  run.device<T>().prelu(run, call.batch, call.features, slopes(run.arena, call.features), call.x.features, call.y);
}

template <class T>
void PRelu<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Memory& memory) {
  T* const gradient = start_gradient(static_cast<FlatTape<T>&>(tape), *this->parameters(), memory);
  if (!call.dy.data) return;
  T* const sums = run.arena.template take<T>(size_t(call.features));
  fill_flat(run.device<T>(), sums, call.features, T(0));
  run.device<T>().prelu_gradient(run, call.batch, call.features, slopes(run.arena, call.features), call.x.features,
                                 call.dy, call.dx, sums);
  sum_positions<T>(run, sums, call.features, channels_, gradient);
}

template <class T>
void PRelu<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int) {
  to.add(static_cast<FlatTape<T>&>(tape).gradient);
}

template class PRelu<float>;
template class PRelu<double>;

}  // namespace recurra
