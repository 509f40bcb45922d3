#include "layers/conv2d.h"

#include "layers/window_weights.h"

namespace recurra {
namespace {

ConvolutionSpec checked_spec(const ImageOptions& options, ptrdiff_t out_channels, ptrdiff_t groups) {
  check_groups("Conv2d", groups, options.channels, out_channels);
  return image_spec("Conv2d", options, out_channels, [](ptrdiff_t) { return ptrdiff_t(1) << 20; });
}

}  // namespace

template <class T>
Conv2d<T>::Conv2d(const Devices& devices, const ImageOptions& options, ptrdiff_t out_channels, ptrdiff_t groups,
                  bool bias)
    : Convolution<T>(devices, checked_spec(options, out_channels, groups), groups, bias,
                     {out_channels, options.channels / groups, options.kernel[0], options.kernel[1]}),
      whole_(options.width > 0) {}

template class Conv2d<float>;
template class Conv2d<double>;

}  // namespace recurra
