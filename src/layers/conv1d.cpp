#include "layers/conv1d.h"

#include "layers/window_weights.h"

namespace recurra {
namespace {

ConvolutionSpec checked_spec(const Conv1dOptions& options) {
  const auto within = [](const char* name, ptrdiff_t value) { check_window_size("Conv1d", name, value); };
  within("in_channels", options.in_channels);
  within("out_channels", options.out_channels);
  within("kernel_size", options.kernel_size);
  within("stride", options.stride);
  within("dilation", options.dilation);
  check_groups("Conv1d", options.groups, options.in_channels, options.out_channels);
  ConvolutionSpec spec = {
      options.in_channels, options.out_channels, options.kernel_size, options.stride, options.dilation, 0, 0};
  const ptrdiff_t around = spec.span() - 1;
  constexpr ptrdiff_t kMostValues = 1 << 30;
  check(around <= kMostValues / spec.in, "Conv1d", "a window of ", spec.span(), " steps of ", spec.in,
        " channels is too large, expected at most ", kMostValues, " values; make kernel_size or dilation smaller");
  set_padding("Conv1d", options.padding, spec);
  return spec;
}

}  // namespace

template <class T>
Conv1d<T>::Conv1d(const Devices& devices, const Conv1dOptions& options)
    : Convolution<T>(devices, checked_spec(options), options.groups, options.bias,
                     {options.out_channels, options.in_channels / options.groups, options.kernel_size}) {}

template class Conv1d<float>;
template class Conv1d<double>;

}  // namespace recurra
