#pragma once
#include "layers/convolution.h"

namespace recurra {

struct Conv1dOptions {
  ptrdiff_t in_channels = 0, out_channels = 0, kernel_size = 1, stride = 1, dilation = 1, groups = 1;
  std::string padding;  // "causal", "same" or "valid"
  bool bias = true;
};

// A convolution over steps.
template <class T>
class Conv1d final : public Convolution<T> {
 public:
  Conv1d(const Devices&, const Conv1dOptions&);

  const char* kind() const override { return "conv1d"; }
  bool needs_sequences() const override { return true; }

 private:
  const char* operation() const override { return "Conv1d"; }
};

}  // namespace recurra
