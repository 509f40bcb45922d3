// What layers share whose outputs each look at a window of steps: padding, lengths, and the inputs that are carried on.
#pragma once
#include <algorithm>
#include <string>

#include "layers/layer.h"

namespace recurra {

inline void check_window_size(const char* operation, const char* name, ptrdiff_t value) {
  constexpr ptrdiff_t kMost = 1 << 20;
  check(value >= 1 && value <= kMost, operation, name, " is ", value, ", expected 1 to ", kMost);
}

// Sets the steps before and after a row that its first and last windows may cover.
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

// Whether output step t belongs to input step t.
inline bool keeps_steps(const ConvolutionSpec& spec) {
  return spec.stride == 1 && spec.left + spec.right == spec.span() - 1;
}

inline Batch window_batch(const char* operation, const ConvolutionSpec& spec, const Batch& batch, Arena& memory) {
  if (keeps_steps(spec)) return batch;
  check(!batch.reset, operation,
        "got reset, expected none where the output has other steps than the input; make the layer with stride=1 and "
        "padding 'causal' or 'same', or leave reset out");
  Batch next = {batch.rows, spec.output_steps(batch.steps), nullptr, nullptr, 0, 0};
  if (batch.lengths) {
    int64_t* lengths = memory.take<int64_t>(size_t(batch.rows));
    for (ptrdiff_t r = 0; r < batch.rows; ++r) lengths[r] = spec.output_steps(batch.lengths[r]);
    next.lengths = lengths;
  }
  return next;
}

// Calls f(i, step, from_state) for i < spec.left, the inputs that the next window of a row still sees: step `step` of
// the row, or value `from_state` of the state before it; both -1 where an episode's beginning lies between.
template <class F>
void for_each_past(const ConvolutionSpec& spec, const Batch& batch, ptrdiff_t row, const F& f) {
  const ptrdiff_t start = batch.last_reset(row), length = batch.length(row);
  for (ptrdiff_t i = 0; i < spec.left; ++i) {
    const ptrdiff_t step = length - spec.left + i;
    if (step >= std::max<ptrdiff_t>(start, 0))
      f(i, step, -1);
    else
      f(i, -1, start < 0 ? spec.left + step : -1);
  }
}

// Those inputs in a row of the final state, from the inputs of a call and its initial state.
template <class T>
void keep_past(const ConvolutionSpec& spec, const LayerForward<T>& call) {
  for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
    for_each_past(spec, call.batch, r, [&](ptrdiff_t i, ptrdiff_t step, ptrdiff_t from_state) {
      T* to = call.final_state.at(r) + i * spec.in;
      if (step >= 0)
        std::copy_n(call.x.features.at(r, step), spec.in, to);
      else if (from_state >= 0 && call.state.data)
        std::copy_n(call.state.at(r) + from_state * spec.in, spec.in, to);
      else
        std::fill_n(to, spec.in, T(0));
    });
}

// The gradient of keep_past(), added to that of the inputs and of the initial state.
template <class T>
void keep_past_gradient(const ConvolutionSpec& spec, const LayerBackward<T>& call) {
  if (!call.dfinal.data) return;
  for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
    for_each_past(spec, call.batch, r, [&](ptrdiff_t i, ptrdiff_t step, ptrdiff_t from_state) {
      const T* from = call.dfinal.at(r) + i * spec.in;
      T* to = nullptr;
      if (step >= 0 && call.dx.data) to = call.dx.at(r, step);
      if (from_state >= 0 && call.dstate.data) to = call.dstate.at(r) + from_state * spec.in;
      for (ptrdiff_t k = 0; to && k < spec.in; ++k) to[k] += from[k];
    });
}

}  // namespace recurra
