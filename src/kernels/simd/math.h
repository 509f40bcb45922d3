// exp, tanh and sigmoid over vectors, and scalars by the same text. Largest errors, in units in the last place, of
// float (on a grid over the whole range) and double, on every ISA; cpp_tests/math_test.cpp asserts exactly these
// numbers.
//
//   function    max ULP float   max ULP double   range of the claim
//   exp             1.5             1.5          result normal (|x| <= 87 / 708)
//   tanh            3.0             3.0          all x
//   sigmoid         3.0             3.0          x >= -87 / -708 (below: <= 2e-38, 4e-308)
//
// NaN gives NaN. Beyond the range the argument is clamped, so results stay finite.
#pragma once
#include "kernels/simd/vec.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  typedef uint32_t Int;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves round(x) in the low bits
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kLimit = 87.0f;
  static constexpr int kMantissa = 23;
  static constexpr Int kOne = 0x3f800000;
  // Minimax of (e^r - 1 - r) / r^2 on |r| <= ln2 / 2, weighted to the relative error of e^r - 1: 2^-26.
  static constexpr float kPolynomial[] = {0x1.fffffep-2f, 0x1.5554aep-3f, 0x1.555676p-5f, 0x1.122886p-7f,
                                          0x1.6bebdap-10f};
};
template <>
struct ExpConstants<double> {
  typedef uint64_t Int;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kLimit = 708.0;
  static constexpr int kMantissa = 52;
  static constexpr Int kOne = 0x3ff0000000000000;
  // As above: 2^-61.
  static constexpr double kPolynomial[] = {0x1.0p-1,
                                           0x1.5555555555559p-3,
                                           0x1.555555555553ep-5,
                                           0x1.111111110f674p-7,
                                           0x1.6c16c16c1f286p-10,
                                           0x1.a01a01b001e66p-13,
                                           0x1.a01a017b59788p-16,
                                           0x1.71ddf7fe79f1bp-19,
                                           0x1.27e536a4bf6eap-22,
                                           0x1.af5f684d15abep-26,
                                           0x1.1ee878a6fa367p-29};
};

template <class V>
RECURRA_INLINE V constant(double x) {
  return broadcast<V>(Lane<V>(x));
}
template <class V>
RECURRA_INLINE V one() {
  return constant<V>(1);
}

// Into [low, high]; NaN stays NaN.
template <class V>
RECURRA_INLINE V clamp(V x, double low, double high) {
  return min(constant<V>(high), max(constant<V>(low), x));
}

// x = n ln2 + r: p = e^r - 1, for |x| <= 2^21; scale = 2^n, for |x| <= kLimit.
template <class V>
struct Reduced {
  V n, scale, p;
};
template <class V>
RECURRA_INLINE Reduced<V> reduce(V x) {
  typedef ExpConstants<Lane<V>> C;
  const V round = constant<V>(C::kRound);
  const V t = fma(x, constant<V>(1.44269504088896340736), round);
  const V n = t - round;
  const V r = fma(n, constant<V>(-C::kLn2Low), fma(n, constant<V>(-C::kLn2High), x));
  constexpr int degree = int(sizeof C::kPolynomial / sizeof C::kPolynomial[0]) - 1;
  V q = constant<V>(C::kPolynomial[degree]);
  RECURRA_UNROLL
  for (int i = degree - 1; i >= 0; --i) q = fma(q, r, constant<V>(C::kPolynomial[i]));
  const IntVec<V> bits = (bit_cast<IntVec<V>>(t) << C::kMantissa) + C::kOne;  // the low bits of t are n
  return {n, bit_cast<V>(bits), fma(q, r * r, r)};
}

// e^x - 1, accurate near 0 too.
template <class V>
RECURRA_INLINE V expm1_clamped(V x) {
  const Reduced<V> e = reduce(x);
  return fma(e.scale, e.p, e.scale - constant<V>(1));
}

template <class V>
RECURRA_INLINE V exp(V x) {
  typedef ExpConstants<Lane<V>> C;
  const Reduced<V> e = reduce(clamp(x, -C::kLimit, C::kLimit));
  return e.scale * (e.p + constant<V>(1));
}

// (e^2x - 1) / (e^2x + 1); from |x| = 20 on the result is 1 in both precisions.
template <class V>
RECURRA_INLINE V tanh(V x) {
  const V e = expm1_clamped(clamp(x + x, -40, 40));
  return e / (e + constant<V>(2));
}

// 1 / (1 + e^-x)
template <class V>
RECURRA_INLINE V sigmoid(V x) {
  typedef ExpConstants<Lane<V>> C;
  const V e = expm1_clamped(clamp(-x, -C::kLimit, C::kLimit));
  return constant<V>(1) / (e + constant<V>(2));
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
