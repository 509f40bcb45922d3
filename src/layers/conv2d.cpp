#include "layers/conv2d.h"

namespace recurra {
namespace {

ConvolutionSpec checked_spec(const ImageOptions& options, ptrdiff_t out_channels) {
  return image_spec("Conv2d", options, out_channels, [](ptrdiff_t) { return ptrdiff_t(1) << 20; });
}

}  // namespace

template <class T>
Conv2d<T>::Conv2d(const Devices& devices, const ImageOptions& options, ptrdiff_t out_channels, bool bias)
    : Convolution<T>(devices, checked_spec(options, out_channels), bias,
                     {out_channels, options.channels, options.kernel[0], options.kernel[1]}),
      whole_(options.width > 0) {}

template class Conv2d<float>;
template class Conv2d<double>;

}  // namespace recurra
