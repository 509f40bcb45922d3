// Half precision (IEEE 754 binary16): 11 bits of precision, values up to 65504, subnormal ones down to 2^-24.
#pragma once
#include "kernels/gemm/micro_kernels.h"

namespace recurra::RECURRA_ISA {
namespace {

// Bits of halves to floats, exactly: by the exponent's offset, or where that is 0, as integers.
template <class H>
auto widen_integers(H halves) {
  constexpr int N = int(sizeof(H) / sizeof(uint16_t));
  typedef typename VecOf<uint32_t, N>::type U;
  typedef typename VecOf<float, N>::type F;
  const U bits = __builtin_convertvector(halves, U), size = (bits & 0x7fffu) << 13, exponent = size >> 23;
  const U least = U{} + (113u << 23);  // of a normal half
  const U normal = size + (112u << 23), infinite = size + (224u << 23);
  const U subnormal = bit_cast<U>(bit_cast<F>(size + least) - bit_cast<F>(least));
  return bit_cast<F>((exponent == 0u ? subnormal : exponent == 31u ? infinite : normal) | (bits & 0x8000u) << 16);
}

template <int N>
RECURRA_INLINE auto widen(const char* from) {
  typename VecOf<uint16_t, N>::type halves;
  __builtin_memcpy(&halves, from, sizeof halves);
#if defined(__F16C__) && !defined(__clang__)
  typedef VecOf<short, 8>::type Short8;
#if defined(__AVX512F__)
  typedef VecOf<short, 16>::type Short16;
  if constexpr (N == 16)
    return __builtin_ia32_vcvtph2ps512_mask(bit_cast<Short16>(halves), typename VecOf<float, N>::type{}, -1, 4);
#endif
  if constexpr (N == 8) return __builtin_ia32_vcvtph2ps256(bit_cast<Short8>(halves));
  if constexpr (N == 4) {
    Short8 low = {};
    __builtin_memcpy(&low, from, sizeof halves);
    return __builtin_ia32_vcvtph2ps(low);
  }
#else
  return widen_integers(halves);
#endif
}

// Rounds to the nearest half, to even where two are equally near.
template <class T>
uint16_t narrow_one(T x) {
  constexpr int kFraction = sizeof(T) == sizeof(float) ? 23 : 52, kBias = sizeof(T) == sizeof(float) ? 127 : 1023;
  typedef typename IntOf<T>::type U;
  const U bits = bit_cast<U>(x), size = bits & (U(-1) >> 1);
  const uint16_t sign = uint16_t(bits >> (8 * sizeof(T) - 16) & 0x8000);
  const T a = bit_cast<T>(size);
  if (a != a) return uint16_t(sign | 0x7e00);
  if (a >= T(65520)) return uint16_t(sign | 0x7c00);
  const int exponent = int(size >> kFraction) - kBias, place = exponent > -14 ? exponent - 10 : -24;
  const T magic = bit_cast<T>(U(place + kFraction + kBias) << kFraction);  // its last place is that of the half
  const float rounded = float((a + magic) - magic);
  if (rounded < 0x1p-14f) return uint16_t(sign | uint16_t(rounded * 0x1p24f));
  return uint16_t(sign | uint16_t((bit_cast<uint32_t>(rounded) >> 13) - (112u << 10)));
}

struct F16 {
  static constexpr ptrdiff_t kBytes = 2;
  static constexpr int kLargest = 0;
  template <class V>
  static RECURRA_INLINE V load(const char* from) {
    return __builtin_convertvector(widen<lanes<V>()>(from), V);
  }
  template <class T>
  static void narrow(const T* from, void* to, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; ++i) static_cast<uint16_t*>(to)[i] = narrow_one(from[i]);
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
