#include "layers/convolution.h"

#include "layers/window_weights.h"

namespace recurra {
namespace {

std::vector<ParameterSpec> parameter_specs(const ConvolutionSpec& spec, bool bias,
                                           const std::vector<int64_t>& weight_shape) {
  std::vector<ParameterSpec> specs = {{"weight", weight_shape}};
  if (bias) specs.push_back({"bias", {spec.out_channels()}});
  return specs;
}

}  // namespace
template <class T>
Convolution<T>::Convolution(const Devices& devices, const ConvolutionSpec& spec, ptrdiff_t groups, bool bias,
                            const std::vector<int64_t>& weight_shape)
    : Layer<T>(devices, parameter_specs(spec, bias, weight_shape)), spec_(spec), groups_(groups), bias_(bias) {}

template <class T>
Batch Convolution<T>::output_batch(const Batch& batch, Arena& memory) const {
  return window_batch(operation(), spec_, batch, memory);
}

template <class T>
std::vector<StateSpec> Convolution<T>::states() const {
  if (!has_state()) return {};
  return {{"past", spec_.left, spec_.in}};
}

template <class T>
double Convolution<T>::work() const {
  return double(weight_size() * spec_.places()) / double(spec_.stride);
}

template <class T>
auto Convolution<T>::weights(bool transposed) -> Weights {
  return this->cached(transposed ? transposed_ : forward_, [&](Arena memory) {
    return pack_windows(*this->parameters(), spec_, groups_, bias_, transposed, std::move(memory));
  });
}

template <class T>
void Convolution<T>::product(const Run& run, const LayerForward<T>& call, const OwnedMatrix<T>& packed) const {
  run.device<T>().convolve(run, {&spec_, &call.batch, packed.matrix, packed.bias, call.x.features,
                                 has_state() ? call.state : StateRows<const T>{}, call.y});
  if (has_state())
    run.device<T>().keep_past({&spec_, &call.batch, call.x.features, call.state, call.final_state, false});
}

template <class T>
void Convolution<T>::forward(const Run& run, const LayerForward<T>& call) {
  const Weights packed = weights(false);
  product(run, call, *packed.value);
}

template <class T>
std::unique_ptr<LayerStep<T>> Convolution<T>::prepare_step(ptrdiff_t, ptrdiff_t features) {
  return std::make_unique<PackedStep<T, Convolution>>(*this, features);
}

template <class T>
void Convolution<T>::count_gradient(const LayerForward<T>&, Memory& count) const {
  count.device.take<T>(size_t(window_gradient_size(*this->parameters(), spec_, groups_)));
}

template <class T>
void Convolution<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Memory& memory) {
  T* gradient = start_window_gradient(static_cast<FlatTape<T>&>(tape), *this->parameters(), spec_, groups_, memory);
  const bool carries = has_state();
  const StateRows<T> dpast = carries ? call.dstate : StateRows<T>{};
  if (dpast.data) fill_rows(run.device<T>(), call.batch.rows, spec_.left * spec_.in, T(0), dpast);
  if (call.dy.data) {
    const Weights packed = weights(true);
    run.device<T>().convolve_gradient(
        run, {&spec_, &call.batch, packed.value->matrix, call.x.features, carries ? call.state : StateRows<const T>{},
              call.dy, call.dx, dpast, gradient, bias_ ? gradient + weight_size() : nullptr});
  }
  if (carries && call.dfinal.data)
    run.device<T>().keep_past_gradient(spec_, call.batch, call.dfinal, call.dx, call.dstate);
}

template <class T>
void Convolution<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int) {
  add_window_gradient(*this->parameters(), spec_, groups_, static_cast<FlatTape<T>&>(tape).gradient, to);
}

template class Convolution<float>;
template class Convolution<double>;

}  // namespace recurra
