// Activations whose derivative follows from their value y, over vectors and scalars. relu, the hard sigmoid and linear
// are exact but for roundings of products; tanh and sigmoid are those of kernels/simd/math.h. NaN gives NaN.
#pragma once
#include "kernels/simd/math.h"

namespace recurra::RECURRA_ISA {
namespace {

// value(x), and derivative(x, y) with y = value(x), which reads y alone unless the value does not tell. Where a slope
// changes, the one to the left counts, as in PyTorch.
struct Relu {
  template <class V>
  RECURRA_INLINE static V value(V x) {
    return max(V{}, x);  // NaN stays NaN
  }
  template <class V>
  RECURRA_INLINE static V derivative(V x, V) {
    return x > V{} ? constant<V>(1) : V{};
  }
};

struct Tanh {
  template <class V>
  RECURRA_INLINE static V value(V x) {
    return tanh(x);
  }
  template <class V>
  RECURRA_INLINE static V derivative(V, V y) {
    return fma(-y, y, constant<V>(1));
  }
};

struct Sigmoid {
  template <class V>
  RECURRA_INLINE static V value(V x) {
    return sigmoid(x);
  }
  template <class V>
  RECURRA_INLINE static V derivative(V, V y) {
    return y * (constant<V>(1) - y);
  }
};

// x / (1 + |x|) (Bergstra et al. 2009), for |x| up to 1e30, where it is 1.
struct Softsign {
  template <class V>
  RECURRA_INLINE static V value(V x) {
    const V bounded = clamp(x, -1e30, 1e30);
    return bounded / (constant<V>(1) + max(-bounded, bounded));
  }
  template <class V>
  RECURRA_INLINE static V derivative(V, V y) {
    const V left = constant<V>(1) - max(-y, y);
    return left * left;
  }
};

// clip(alpha x + beta, 0, 1): flat where the value is 0 or 1.
template <class T>
struct HardSigmoid {
  T alpha, beta;
  template <class V>
  RECURRA_INLINE V value(V x) const {
    return clamp(fma(broadcast<V>(alpha), x, broadcast<V>(beta)), 0, 1);
  }
  template <class V>
  RECURRA_INLINE V derivative(V, V y) const {
    const V slope = y < constant<V>(1) ? broadcast<V>(alpha) : V{};
    return y > V{} ? slope : V{};
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
