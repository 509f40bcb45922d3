// Shared by layers whose outputs each read a window of steps: padding and lengths.
#pragma once
#include <string>

#include "layers/layer.h"

namespace recurra {

inline void check_window_size(const char* operation, const char* name, ptrdiff_t value) {
  constexpr ptrdiff_t kMost = 1 << 20;
  check(value >= 1 && value <= kMost, operation, name, " is ", value, ", expected 1 to ", kMost);
}

// Sets the padding before and after a row.
inline void set_padding(const char* operation, const std::string& padding, ConvolutionSpec& spec) {
  const ptrdiff_t around = spec.span() - 1;
  if (padding == "causal") {
    spec.left = around;
  } else if (padding == "same") {
    spec.left = around / 2;
    spec.right = around - spec.left;
  } else {
    check(padding == "valid", operation, "padding is '", padding, "', expected one of: causal, same, valid");
  }
}

// Whether output step t corresponds to input step t.
inline bool keeps_steps(const ConvolutionSpec& spec) {
  return spec.stride == 1 && spec.left + spec.right == spec.span() - 1;
}

inline Batch window_batch(const char* operation, const ConvolutionSpec& spec, const Batch& batch, Arena& memory) {
  if (keeps_steps(spec)) return batch;
  check(!batch.reset, operation,
        "got reset, expected none where the output has other steps than the input; make the layer with stride=1 and "
        "padding 'causal' or 'same', or leave reset out");
  return batch_of_steps(batch, memory, [&](ptrdiff_t steps) { return spec.output_steps(steps); });
}

}  // namespace recurra
