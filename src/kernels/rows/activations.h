// Activations and their derivatives over vectors. Largest errors, in units in the last place, on every ISA;
// cpp_tests/math_test.cpp asserts exactly these numbers.
//
//   function    max ULP float   max ULP double   range of the claim
//   elu             1.5             1.5          all x
//   gelu            6.0             6.0          x >= -12.5 / -37 (below: |result| <= 1e-34, 1e-296)
//   silu            3.0             3.0          x >= -87 / -708 (below: |result| <= 4e-36, 4e-305)
//   softplus        3.0             3.0          x >= -87 / -708 (below: <= 2e-38, 4e-308)
//
// leaky_relu is exact but for one product; relu, tanh and sigmoid are in kernels/simd/activations.h. NaN gives NaN.
#pragma once
#include "kernels/rows/call.h"
#include "kernels/rows/softmax.h"
#include "kernels/simd/activations.h"

namespace recurra::RECURRA_ISA {
namespace {

// As kernels/simd/activations.h has them: value(x), and derivative(x, y) with y = value(x).
struct LeakyRelu {
  static constexpr double kSlope = 0.01;
  template <class V>
  RECURRA_INLINE static V value(V x) {
    return x > V{} ? x : x * constant<V>(kSlope);
  }
  template <class V>
  RECURRA_INLINE static V derivative(V x, V) {
    return x > V{} ? constant<V>(1) : constant<V>(kSlope);
  }
};

// e^x - 1 where x <= 0 (Clevert, Unterthiner and Hochreiter 2016).
struct Elu {
  template <class V>
  RECURRA_INLINE static V value(V x) {
    const V below = expm1_clamped(clamp(x, -ExpConstants<Lane<V>>::kLimit, 0));
    return x > V{} ? x : below;
  }
  template <class V>
  RECURRA_INLINE static V derivative(V x, V y) {
    return x > V{} ? constant<V>(1) : y + constant<V>(1);
  }
};

// x sigmoid(x) (Elfwing, Uchibe and Doya 2018).
struct Silu {
  template <class V>
  RECURRA_INLINE static V value(V x) {
    // Where sigmoid's argument is clamped, x is too: the result stays small.
    return max(constant<V>(-ExpConstants<Lane<V>>::kLimit), x) * sigmoid(x);
  }
  template <class V>
  RECURRA_INLINE static V derivative(V x, V) {
    const V s = sigmoid(x), bounded = clamp(x, -ExpConstants<Lane<V>>::kLimit, ExpConstants<Lane<V>>::kLimit);
    return s * fma(bounded, constant<V>(1) - s, constant<V>(1));
  }
};

// log(1 + e) for 0 <= e <= 1: 2 artanh(s) with s = e / (2 + e) <= 1/3, by its series.
template <class V>
RECURRA_INLINE V log1p_unit(V e) {
  constexpr int terms = sizeof(Lane<V>) == 4 ? 7 : 16;  // the rest is below 2^-28, 2^-58
  const V s = e / (e + constant<V>(2)), q = s * s;
  V p = constant<V>(1.0 / (2 * terms + 1));
  RECURRA_UNROLL
  for (int k = terms - 1; k >= 1; --k) p = fma(p, q, constant<V>(1.0 / (2 * k + 1)));
  return fma(s + s, q * p, s + s);
}

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)
struct Softplus {
  template <class V>
  RECURRA_INLINE static V value(V x) {
    return max(V{}, x) + log1p_unit(exp(-max(-x, x)));
  }
  template <class V>
  RECURRA_INLINE static V derivative(V x, V) {
    return sigmoid(x);
  }
};

// With t = 1 / (1 + a / 5), the ratio Phi(-a) e^(a^2 / 2) / t is a polynomial in (1 - kSlope a) t, which goes from 1 to
// -1: Chebyshev interpolation on 0 <= a <= kLimit, to 2^-28 and 2^-56.
template <class T>
struct NormalConstants;
template <>
struct NormalConstants<float> {
  static constexpr float kLimit = 13.19f;  // e^(-a^2 / 2) is normal
  static constexpr uint32_t kHigh = 0xfffff000;
  static constexpr double kSlope = 0.2 * 1.7547169811320754;
  static constexpr float kPolynomial[] = {0x1.98070ep-3f,   0x1.3040a2p-3f,   0x1.6c2eccp-4f,  0x1.5c3092p-5f,
                                          0x1.0357ep-6f,    0x1.1a2844p-8f,   0x1.6ed496p-11f, -0x1.b8224ap-18f,
                                          -0x1.13d8a2p-15f, -0x1.129cdep-18f, 0x1.0d3abap-20f};
};
template <>
struct NormalConstants<double> {
  static constexpr double kLimit = 37.62;
  static constexpr uint64_t kHigh = 0xfffffffff8000000;
  static constexpr double kSlope = 0.2 * 1.2649006622516556;
  static constexpr double kPolynomial[] = {
      0x1.5dee7bccc76ebp-3,   0x1.1fa187628f21ap-3,   0x1.8c0fa98d8db14p-4,   0x1.c43dfbc72c8aap-5,
      0x1.a220dd17b8c96p-6,   0x1.29491c2821cbcp-7,   0x1.1c2f05cb9fb9ap-9,   0x1.5a025aa77fae7p-13,
      -0x1.b024966bae18ap-14, -0x1.391cf4a1b87d9p-15, 0x1.0d415d8771c90p-20,  0x1.ccd65c13de953p-19,
      0x1.6d2de66f24b49p-22,  -0x1.472069aee5128p-22, -0x1.d23b0e5b61547p-25, 0x1.07ae8b108ed69p-25,
      0x1.b2d202e5dd3cep-28,  -0x1.e94a75ba4df0ap-29, -0x1.5509f0aa388c2p-31, 0x1.c48b2ce12b325p-32,
      0x1.932dd098caa59p-35,  -0x1.18ddb5b984b2cp-35, -0x1.ebfe020c7359cp-40};
};

// Of the normal distribution at a = |x|, bounded: Phi(-a), which is accurate far out too, and e^(-a^2 / 2).
template <class V>
struct NormalTail {
  V a, below, bell;
};
template <class V>
RECURRA_INLINE NormalTail<V> normal_tail(V x) {
  typedef NormalConstants<Lane<V>> C;
  const V a = min(constant<V>(C::kLimit), max(-x, x));
  // a^2 rounded would lose the exponential's last digits: the square of a's upper half is exact.
  const V high = bit_cast<V>(bit_cast<IntVec<V>>(a) & C::kHigh);
  const V half = constant<V>(-0.5);
  const V coarse = exp(high * high * half), bell = fma(coarse, expm1_clamped((a - high) * (a + high) * half), coarse);
  const V divisor = fma(a, constant<V>(0.2), constant<V>(1));
  const V w = fma(a, constant<V>(-C::kSlope), constant<V>(1)) / divisor;
  constexpr int degree = int(sizeof C::kPolynomial / sizeof C::kPolynomial[0]) - 1;
  V p = constant<V>(C::kPolynomial[degree]);
  RECURRA_UNROLL
  for (int i = degree - 1; i >= 0; --i) p = fma(p, w, constant<V>(C::kPolynomial[i]));
  return {a, bell * p / divisor, bell};
}

// x Phi(x) (Hendrycks and Gimpel 2016), not its approximation by tanh.
struct Gelu {
  template <class V>
  RECURRA_INLINE static V value(V x) {
    const NormalTail<V> n = normal_tail(x);
    const V beyond = n.a * n.below;  // |x| Phi(-|x|)
    return x > V{} ? x - beyond : -beyond;
  }
  template <class V>
  RECURRA_INLINE static V derivative(V x, V) {
    const NormalTail<V> n = normal_tail(x);
    const V slope = n.a * n.bell * constant<V>(0.39894228040143267794);  // |x| times the density
    return x > V{} ? constant<V>(1) - n.below + slope : n.below - slope;
  }
};

template <class Activation, class T>
void activation_row(const T* x, T* y, ptrdiff_t n) {
  map_row(x, y, n, [](Vec<T> v) { return Activation::value(v); });
}

// dx = dy times the derivative; dy and dx may be the same.
template <class Activation, class T>
void activation_gradient_row(const T* x, const T* y, const T* dy, T* dx, ptrdiff_t n) {
  typedef Vec<T> V;
  for (ptrdiff_t i = 0; i < n; i += lanes<V>())
    store(dx + i, load<V>(dy + i, n - i) * Activation::derivative(load<V>(x + i, n - i), load<V>(y + i, n - i)), n - i);
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
