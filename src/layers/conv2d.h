#pragma once
#include "layers/convolution.h"
#include "layers/image.h"

namespace recurra {

// A convolution over the rows and columns of images, [column or row][...][channel].
template <class T>
class Conv2d final : public Convolution<T> {
 public:
  Conv2d(const Devices&, const ImageOptions&, ptrdiff_t out_channels, ptrdiff_t groups, bool bias);

  const char* kind() const override { return "conv2d"; }
  bool needs_sequences() const override { return !whole_; }

 private:
  const char* operation() const override { return "Conv2d"; }

  bool whole_;  // each step holds an image
};

}  // namespace recurra
