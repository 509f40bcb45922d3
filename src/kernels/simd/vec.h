// Vectors: GCC/Clang vector extensions, so that + - * / < ?: are operators and one text serves every ISA.
// Compiled once per ISA, hence no std:: and nothing with external linkage (see docs/architecture.md).
#pragma once
#include <stddef.h>
#include <stdint.h>

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#define RECURRA_INLINE inline __attribute__((always_inline))
#define RECURRA_PRAGMA(x) _Pragma(#x)
#if defined(__clang__)
#define RECURRA_UNROLL RECURRA_PRAGMA(clang loop unroll(full))
#else
#define RECURRA_UNROLL RECURRA_PRAGMA(GCC unroll 32)
#endif

namespace recurra::RECURRA_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kRegisters = 32;
#else
constexpr int kVectorBytes = 16, kRegisters = 16;
#endif

// Through a struct: an alias template with the attribute breaks argument deduction in GCC 12.
template <class T, int N>
struct VecOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T>
constexpr int kLanes = kVectorBytes / int(sizeof(T));
template <class T>
using Vec = typename VecOf<T, kLanes<T>>::type;

// A scalar counts as a vector of one lane, so that equations over V serve it too.
template <class V>
struct LaneOf {
  typedef decltype(+V{}[0]) type;
};
template <class T>
struct ScalarLane {
  typedef T type;
};
template <>
struct LaneOf<float> : ScalarLane<float> {};
template <>
struct LaneOf<double> : ScalarLane<double> {};
template <class V>
using Lane = typename LaneOf<V>::type;
template <class V>
constexpr int lanes() {
  return int(sizeof(V) / sizeof(Lane<V>));
}
// Unsigned integers of the same size and number.
template <class V>
struct IntOf {
  typedef typename VecOf<typename IntOf<Lane<V>>::type, lanes<V>()>::type type;
};
template <>
struct IntOf<float> {
  typedef uint32_t type;
};
template <>
struct IntOf<double> {
  typedef uint64_t type;
};
template <class V>
using IntVec = typename IntOf<V>::type;

template <class V>
RECURRA_INLINE V load(const Lane<V>* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
RECURRA_INLINE void store(Lane<V>* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}
template <class V>
RECURRA_INLINE V broadcast(Lane<V> x) {
  return x - V{};  // one broadcast instruction; x - 0 is x for every x, -0.0 and NaN included
}

// Asks for n elements, to be read or written soon.
template <class T>
RECURRA_INLINE void prefetch(const T* from, ptrdiff_t n) {
  for (ptrdiff_t i = 0; i < n; i += 64 / ptrdiff_t(sizeof(T))) __builtin_prefetch(from + i);
}

// Copies n < 2 * Piece elements by halving: fixed-size moves, no call.
template <int Piece, class T>
RECURRA_INLINE void copy_tail(T* to, const T* from, ptrdiff_t n) {
  if (n & Piece) {
    __builtin_memcpy(to, from, Piece * sizeof(T));
    to += Piece;
    from += Piece;
  }
  if constexpr (Piece > 1) copy_tail<Piece / 2>(to, from, n);
}
// The first n lanes, the rest zero; memory past them is not touched. n <= 0 is allowed.
template <class V>
RECURRA_INLINE V load(const Lane<V>* p, ptrdiff_t n) {
  if (n >= lanes<V>()) return load<V>(p);
  Lane<V> buffer[lanes<V>()] = {};
  if (n > 0) copy_tail<lanes<V>() / 2>(buffer, p, n);
  return load<V>(buffer);
}
template <class V>
RECURRA_INLINE void store(Lane<V>* p, V v, ptrdiff_t n) {
  if (n >= lanes<V>()) return store(p, v);
  Lane<V> buffer[lanes<V>()];
  store(static_cast<Lane<V>*>(buffer), v);
  if (n > 0) copy_tail<lanes<V>() / 2>(p, static_cast<const Lane<V>*>(buffer), n);
}

// A vector of two halves from two places, and back to them.
template <class V>
using HalfOf = typename VecOf<Lane<V>, lanes<V>() / 2>::type;
template <class V>
RECURRA_INLINE V join(HalfOf<V> low, HalfOf<V> high) {
  if constexpr (lanes<V>() == 16)
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  else if constexpr (lanes<V>() == 8)
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
  else
    return __builtin_shufflevector(low, high, 0, 1, 2, 3);
}
template <class V>
RECURRA_INLINE HalfOf<V> low_half(V v) {
  if constexpr (lanes<V>() == 16)
    return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  else if constexpr (lanes<V>() == 8)
    return __builtin_shufflevector(v, v, 0, 1, 2, 3);
  else
    return __builtin_shufflevector(v, v, 0, 1);
}
template <class V>
RECURRA_INLINE HalfOf<V> high_half(V v) {
  if constexpr (lanes<V>() == 16)
    return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  else if constexpr (lanes<V>() == 8)
    return __builtin_shufflevector(v, v, 4, 5, 6, 7);
  else
    return __builtin_shufflevector(v, v, 2, 3);
}

#if defined(__FMA__) || defined(__aarch64__)
RECURRA_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
RECURRA_INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else  // the baseline has no such instruction: two roundings there, everywhere alike
RECURRA_INLINE float fma(float a, float b, float c) { return a * b + c; }
RECURRA_INLINE double fma(double a, double b, double c) { return a * b + c; }
#endif
// a * b + c. Every multiply-add is said by this name: the compiler fuses none by itself (-ffp-contract=off), so that
// the same element gets the same bits in every instance of a kernel.
template <class V>
RECURRA_INLINE V fma(V a, V b, V c) {
#if defined(__FMA__) || defined(__aarch64__)
  V r;
  for (int i = 0; i < lanes<V>(); ++i) r[i] = fma(Lane<V>(a[i]), Lane<V>(b[i]), Lane<V>(c[i]));
  return r;  // Clang makes one instruction of it
#else
  return a * b + c;
#endif
}

// a < b ? a : b and a > b ? a : b, lane by lane; b where either is NaN.
template <class V>
RECURRA_INLINE V min(V a, V b) {
  return a < b ? a : b;
}
template <class V>
RECURRA_INLINE V max(V a, V b) {
  return a > b ? a : b;
}

RECURRA_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
RECURRA_INLINE double sqrt(double x) { return __builtin_sqrt(x); }
template <class V>
RECURRA_INLINE V sqrt(V a) {
  V r;
  for (int i = 0; i < lanes<V>(); ++i) r[i] = sqrt(Lane<V>(a[i]));
  return r;
}

// GCC does not always find the one instruction for these by itself; isa_objects_test looks for what it leaves.
#if defined(__SSE2__) && !defined(__clang__)
#define RECURRA_MIN_MAX(V, suffix)                                            \
  RECURRA_INLINE V min(V a, V b) { return __builtin_ia32_min##suffix(a, b); } \
  RECURRA_INLINE V max(V a, V b) { return __builtin_ia32_max##suffix(a, b); } \
  RECURRA_INLINE V sqrt(V a) { return __builtin_ia32_sqrt##suffix(a); }
#define RECURRA_FMA(V, suffix) \
  RECURRA_INLINE V fma(V a, V b, V c) { return __builtin_ia32_vfmadd##suffix(a, b, c); }
typedef VecOf<float, 4>::type Float4;
typedef VecOf<double, 2>::type Double2;
RECURRA_MIN_MAX(Float4, ps)
RECURRA_MIN_MAX(Double2, pd)
#if defined(__FMA__)
typedef VecOf<float, 8>::type Float8;
typedef VecOf<double, 4>::type Double4;
RECURRA_MIN_MAX(Float8, ps256)
RECURRA_MIN_MAX(Double4, pd256)
RECURRA_FMA(Float4, ps)
RECURRA_FMA(Double2, pd)
RECURRA_FMA(Float8, ps256)
RECURRA_FMA(Double4, pd256)
#endif
#if defined(__AVX512F__)  // all lanes, the rounding mode in force
#define RECURRA_AVX512(V, suffix)                                                                 \
  RECURRA_INLINE V min(V a, V b) { return __builtin_ia32_min##suffix##512_mask(a, b, b, -1, 4); } \
  RECURRA_INLINE V max(V a, V b) { return __builtin_ia32_max##suffix##512_mask(a, b, b, -1, 4); } \
  RECURRA_INLINE V sqrt(V a) { return __builtin_ia32_sqrt##suffix##512_mask(a, a, -1, 4); }       \
  RECURRA_INLINE V fma(V a, V b, V c) { return __builtin_ia32_vfmadd##suffix##512_mask(a, b, c, -1, 4); }
typedef VecOf<float, 16>::type Float16;
typedef VecOf<double, 8>::type Double8;
RECURRA_AVX512(Float16, ps)
RECURRA_AVX512(Double8, pd)
#undef RECURRA_AVX512
#endif
#undef RECURRA_MIN_MAX
#undef RECURRA_FMA
#elif defined(__aarch64__)
#define RECURRA_NEON(V, suffix)                                \
  RECURRA_INLINE V sqrt(V a) { return V(vsqrtq_##suffix(a)); } \
  RECURRA_INLINE V fma(V a, V b, V c) { return V(vfmaq_##suffix(c, a, b)); }
typedef VecOf<float, 4>::type Float4;
typedef VecOf<double, 2>::type Double2;
RECURRA_NEON(Float4, f32)
RECURRA_NEON(Double2, f64)
#undef RECURRA_NEON
#endif

// What a whole vector is multiplied by: factor<V>(x), then fma(factor, b, c) for any number of b. NEON multiplies by a
// lane of a register, so the factor stays the scalar that it is: written as assembly, as GCC else broadcasts it where
// it is used more than once, which on most processors costs a place in the multiply-add pipeline and here a register.
#if defined(__aarch64__)
template <class V>
struct Factor {
  Lane<V> x;
};
template <class V>
RECURRA_INLINE Factor<V> factor(Lane<V> x) {
  return {x};
}
RECURRA_INLINE Float4 fma(Factor<Float4> a, Float4 b, Float4 c) {
  asm("fmla %0.4s, %1.4s, %2.s[0]" : "+w"(c) : "w"(b), "w"(a.x));
  return c;
}
RECURRA_INLINE Double2 fma(Factor<Double2> a, Double2 b, Double2 c) {
  asm("fmla %0.2d, %1.2d, %2.d[0]" : "+w"(c) : "w"(b), "w"(a.x));
  return c;
}
#else
template <class V>
RECURRA_INLINE V factor(Lane<V> x) {
  return broadcast<V>(x);
}
#endif

template <class To, class From>
RECURRA_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
