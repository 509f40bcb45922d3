#include "layers/conv1d.h"

#include <vector>

namespace recurra {
namespace {

ConvolutionSpec checked_spec(const Conv1dOptions& options) {
  const auto within = [](const char* name, ptrdiff_t value) { check_window_size("Conv1d", name, value); };
  within("in_channels", options.in_channels);
  within("out_channels", options.out_channels);
  within("kernel_size", options.kernel_size);
  within("stride", options.stride);
  within("dilation", options.dilation);
  ConvolutionSpec spec = {
      options.in_channels, options.out_channels, options.kernel_size, options.stride, options.dilation, 0, 0};
  const ptrdiff_t around = spec.span() - 1;
  constexpr ptrdiff_t kMostValues = 1 << 30;
  check(around <= kMostValues / spec.in, "Conv1d", "a window of ", spec.span(), " steps of ", spec.in,
        " channels is too large, expected at most ", kMostValues, " values; make kernel_size or dilation smaller");
  set_padding("Conv1d", options.padding, spec);
  return spec;
}

std::vector<ParameterSpec> parameter_specs(const Conv1dOptions& options) {
  checked_spec(options);
  std::vector<ParameterSpec> specs = {{"weight", {options.out_channels, options.in_channels, options.kernel_size}}};
  if (options.bias) specs.push_back({"bias", {options.out_channels}});
  return specs;
}

}  // namespace

template <class T>
Conv1d<T>::Conv1d(const Devices& devices, const Conv1dOptions& options)
    : Layer<T>(devices, parameter_specs(options)), spec_(checked_spec(options)), bias_(options.bias) {}

template <class T>
Batch Conv1d<T>::output_batch(const Batch& batch, Arena& memory) const {
  return window_batch("Conv1d", spec_, batch, memory);
}

template <class T>
std::vector<StateSpec> Conv1d<T>::states() const {
  if (!has_state()) return {};
  return {{"past", spec_.left, spec_.in}};
}

template <class T>
double Conv1d<T>::work() const {
  return double(weight_size()) / double(spec_.stride);
}

// The product's rows are windows, [tap][channel], while PyTorch's weights are [channel][tap].
template <class T>
auto Conv1d<T>::weights(bool transposed) -> Weights {
  return this->cached(transposed ? transposed_ : forward_, [&](Arena memory) {
    const T* weight = this->parameters()->values();
    const ptrdiff_t width = spec_.kernel * spec_.in;
    std::vector<T> ordered(static_cast<size_t>(weight_size()));
    {
      const HostAccess access(this->devices());
      for (ptrdiff_t i = 0; i < spec_.out * spec_.in; ++i)
        for (ptrdiff_t j = 0; j < spec_.kernel; ++j)
          ordered[size_t(i / spec_.in * width + j * spec_.in + i % spec_.in)] = weight[i * spec_.kernel + j];
    }
    return transposed ? pack_matrix(this->device(), ordered.data(), spec_.out, width, false,
                                    static_cast<const T*>(nullptr), std::move(memory))
                      : pack_matrix(this->device(), ordered.data(), width, spec_.out, true,
                                    bias_ ? weight + weight_size() : nullptr, std::move(memory));
  });
}

template <class T>
void Conv1d<T>::product(const Run& run, const LayerForward<T>& call, const OwnedMatrix<T>& packed) const {
  run.device<T>().convolve(run, {&spec_, &call.batch, packed.matrix, packed.bias, call.x.features,
                                 has_state() ? call.state : StateRows<const T>{}, call.y});
  if (has_state())
    run.device<T>().keep_past({&spec_, &call.batch, call.x.features, call.state, call.final_state, false});
}

template <class T>
void Conv1d<T>::forward(const Run& run, const LayerForward<T>& call) {
  const Weights packed = weights(false);
  product(run, call, *packed.value);
}

template <class T>
std::unique_ptr<LayerStep<T>> Conv1d<T>::prepare_step(ptrdiff_t, ptrdiff_t features) {
  return std::make_unique<PackedStep<T, Conv1d>>(*this, features);
}

template <class T>
void Conv1d<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Memory& memory) {
  T* gradient = start_gradient(static_cast<FlatTape<T>&>(tape), *this->parameters(), memory);
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
void Conv1d<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int) {
  const HostAccess access(this->devices());
  const T* gradient = static_cast<FlatTape<T>&>(tape).gradient;
  T* grads = to.data();
  const ptrdiff_t width = spec_.kernel * spec_.in;
  for (ptrdiff_t i = 0; i < spec_.out * spec_.in; ++i)
    for (ptrdiff_t j = 0; j < spec_.kernel; ++j)
      grads[i * spec_.kernel + j] += gradient[i / spec_.in * width + j * spec_.in + i % spec_.in];
  for (ptrdiff_t i = weight_size(); i < this->parameters()->size(); ++i) grads[i] += gradient[i];
}

template class Conv1d<float>;
template class Conv1d<double>;

}  // namespace recurra
