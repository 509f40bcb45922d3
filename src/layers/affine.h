// Gain and shift of normalising layers: the parameters weight and bias, or the constants 1 and 0.
#pragma once
#include "layers/layer.h"

namespace recurra {

inline std::vector<ParameterSpec> affine_specs(const char* operation, ptrdiff_t features, bool affine) {
  check(features >= 1 && features <= ptrdiff_t(1) << 24, operation, "features is ", features, ", expected 1 to ",
        ptrdiff_t(1) << 24);
  if (!affine) return {};
  return {{"weight", {features}}, {"bias", {features}}};
}

template <class T>
struct Affine {
  T *gain, *shift;
};

// A copy of one version of the parameters.
template <class T>
Affine<T> affine_of(Parameters<T>& parameters, ptrdiff_t features, Arena& memory) {
  T* data = memory.take<T>(size_t(2 * features));
  if (parameters.size()) {
    const ReadLock lock(parameters.mutex());
    copy_flat<T>(parameters.device(), parameters.values(), 2 * features, data);
  } else {
    fill_flat(parameters.device(), data, features, T(1));
    fill_flat(parameters.device(), data + features, features, T(0));
  }
  return {data, data + features};
}

// Zeroed room for the gradients of gain and shift: in the tape, or, if they are not parameters, in scratch.
template <class T>
Affine<T> start_affine_gradient(FlatTape<T>& tape, const Parameters<T>& parameters, ptrdiff_t features, Memory& memory,
                                Arena& scratch) {
  T* to = start_gradient(tape, parameters, memory);
  if (!parameters.size())
    fill_flat(parameters.device(), to = scratch.take<T>(size_t(2 * features)), 2 * features, T(0));
  return {to, to + features};
}

}  // namespace recurra
