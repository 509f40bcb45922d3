// Images in a sequence: the steps are the columns of one image, or each step holds an image.
#pragma once
#include <array>

#include "layers/window.h"

namespace recurra {

typedef std::array<ptrdiff_t, 2> HeightAndWidth;

struct ImageOptions {
  ptrdiff_t channels = 0, height = 1, width = 0;  // width 0: the steps are the columns
  HeightAndWidth kernel = {1, 1}, stride = {1, 1}, dilation = {1, 1}, before = {0, 0}, after = {0, 0};
};

// The windows of a layer with `out_channels` channels. Padding is at most `most_padding(span)`.
template <class Most>
ConvolutionSpec image_spec(const char* operation, const ImageOptions& options, ptrdiff_t out_channels,
                           const Most& most_padding) {
  constexpr ptrdiff_t kMostValues = 1 << 30;
  check_window_size(operation, "channels", options.channels);
  check_window_size(operation, "out_channels", out_channels);
  check_window_size(operation, "height", options.height);
  if (options.width) check_window_size(operation, "width", options.width);
  const auto axis = [&](size_t i, ptrdiff_t size) {
    const char* name = i == 0 ? "height" : "width";
    check_window_size(operation, "kernel_size", options.kernel[i]);
    check_window_size(operation, "stride", options.stride[i]);
    check_window_size(operation, "dilation", options.dilation[i]);
    const ImageAxis made = {
        size, options.kernel[i], options.stride[i], options.dilation[i], options.before[i], options.after[i]};
    const ptrdiff_t most = most_padding(made.span());
    for (const ptrdiff_t padding : {made.before, made.after})
      check(padding >= 0 && padding <= most, operation, "padding of the ", name, " is ", padding, ", expected 0 to ",
            most, " for windows of ", made.span());
    check(!size || made.span() <= made.before + size + made.after, operation, "a window has a ", name, " of ",
          made.span(), ", expected at most that of the image with its padding, ", made.before + size + made.after);
    return made;
  };
  ConvolutionSpec spec = {0, 0, 1, 1, 1, 0, 0};
  spec.image = true;
  if (options.width) {
    spec.rows = axis(0, options.height);
    spec.columns = axis(1, options.width);
  } else {
    spec.columns = axis(0, options.height);
    const ImageAxis steps = axis(1, 0);
    spec.kernel = steps.kernel;
    spec.stride = steps.stride;
    spec.dilation = steps.dilation;
    spec.left = steps.before;
    spec.right = steps.after;
  }
  const double in = double(options.channels) * double(spec.rows.size) * double(spec.columns.size);
  const double out = double(out_channels) * double(spec.places());
  const double window = double(spec.taps()) * double(options.channels);
  check(std::max({in, out, window, in * double(spec.span())}) <= double(kMostValues), operation,
        "an image or a window of it is too large, expected at most ", kMostValues,
        " values; make the image, the channels or kernel_size smaller");
  spec.in = options.channels * spec.rows.size * spec.columns.size;
  spec.out = out_channels * spec.places();
  return spec;
}

}  // namespace recurra
