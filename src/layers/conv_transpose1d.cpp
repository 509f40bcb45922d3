#include "layers/conv_transpose1d.h"

#include "layers/window.h"
#include "layers/window_weights.h"

namespace recurra {
namespace {

constexpr const char* kTransposeName = "ConvTranspose1d";

ConvolutionSpec checked_spec(const ConvTranspose1dOptions& options) {
  check_window_size(kTransposeName, "in_channels", options.in_channels);
  check_window_size(kTransposeName, "out_channels", options.out_channels);
  check_window_size(kTransposeName, "kernel_size", options.kernel_size);
  check_window_size(kTransposeName, "stride", options.stride);
  check_window_size(kTransposeName, "dilation", options.dilation);
  check_groups(kTransposeName, options.groups, options.in_channels, options.out_channels);
  ConvolutionSpec spec = {options.out_channels, options.in_channels, options.kernel_size, options.stride,
                          options.dilation,     options.padding,     options.padding};
  constexpr ptrdiff_t kMostValues = 1 << 30;
  check(spec.span() <= kMostValues / spec.in, kTransposeName, "a window of ", spec.span(), " steps of ", spec.in,
        " channels is too large, expected at most ", kMostValues, " values; make kernel_size or dilation smaller");
  check(options.output_padding >= 0 && options.output_padding < options.stride, kTransposeName, "output_padding is ",
        options.output_padding, ", expected 0 to ", options.stride - 1, ", less than stride");
  check(options.padding >= 0 && 2 * options.padding < spec.span() + options.output_padding, kTransposeName,
        "padding is ", options.padding, ", expected 0 to ", (spec.span() + options.output_padding - 1) / 2,
        ", so that every step leaves an output");
  return spec;
}

std::vector<ParameterSpec> parameter_specs(const ConvTranspose1dOptions& options) {
  checked_spec(options);
  std::vector<ParameterSpec> specs = {
      {"weight", {options.in_channels, options.out_channels / options.groups, options.kernel_size}}};
  if (options.bias) specs.push_back({"bias", {options.out_channels}});
  return specs;
}

}  // namespace

template <class T>
ConvTranspose1d<T>::ConvTranspose1d(const Devices& devices, const ConvTranspose1dOptions& options)
    : Layer<T>(devices, parameter_specs(options)),
      spec_(checked_spec(options)),
      output_padding_(options.output_padding),
      groups_(options.groups),
      bias_(options.bias) {}

template <class T>
ptrdiff_t ConvTranspose1d<T>::made_steps(ptrdiff_t steps) const {
  return steps ? (steps - 1) * spec_.stride + spec_.span() + output_padding_ - spec_.left - spec_.right : 0;
}

template <class T>
Batch ConvTranspose1d<T>::output_batch(const Batch& batch, Arena& memory) const {
  check(!batch.reset, kTransposeName,
        "got reset, expected none, as outputs are made of several steps; leave reset out");
  return batch_of_steps(batch, memory, [&](ptrdiff_t steps) { return made_steps(steps); });
}

template <class T>
auto ConvTranspose1d<T>::weights(bool transposed) -> Weights {
  return this->cached(transposed ? transposed_ : forward_, [&](Arena memory) {
    return pack_windows(*this->parameters(), spec_, groups_, false, transposed, std::move(memory));
  });
}

template <class T>
void ConvTranspose1d<T>::forward(const Run& run, const LayerForward<T>& call) {
  const Weights packed = weights(true);
  const Batch made = output_batch(call.batch, run.host);
  run.device<T>().convolve_gradient(
      run, {&spec_, &made, packed.value->matrix, {}, {}, call.x.features, call.y, {}, nullptr, nullptr});
  if (!bias_) return;
  T* const bias = run.arena.template take<T>(size_t(spec_.in));
  {
    const ReadLock lock(this->parameters()->mutex());
    copy_flat<T>(run.device<T>(), this->parameters()->values() + weight_count(spec_, groups_), spec_.in, bias);
  }
  run.device<T>().add(made, spec_.in, {bias, 0, 0}, call.y);
}

template <class T>
void ConvTranspose1d<T>::count_gradient(const LayerForward<T>&, Memory& count) const {
  count.device.take<T>(size_t(window_gradient_size(*this->parameters(), spec_, groups_)));
}

template <class T>
void ConvTranspose1d<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Memory& memory) {
  T* gradient = start_window_gradient(static_cast<FlatTape<T>&>(tape), *this->parameters(), spec_, groups_, memory);
  if (!call.dy.data) return;
  const Batch made = output_batch(call.batch, run.host);
  run.device<T>().convolve_gradient(run,
                                    {&spec_, &made, nullptr, call.dy, {}, call.x.features, {}, {}, gradient, nullptr});
  if (bias_) run.device<T>().sum_valid(run, made, spec_.in, call.dy, gradient + spec_.window() * spec_.out);
  if (!call.dx.data) return;
  const Weights packed = weights(false);
  run.device<T>().convolve(run, {&spec_, &made, packed.value->matrix, nullptr, call.dy, {}, call.dx});
}

template <class T>
void ConvTranspose1d<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int) {
  add_window_gradient(*this->parameters(), spec_, groups_, static_cast<FlatTape<T>&>(tape).gradient, to);
}

template class ConvTranspose1d<float>;
template class ConvTranspose1d<double>;

}  // namespace recurra
