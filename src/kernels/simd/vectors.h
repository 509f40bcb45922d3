// Sums, products and maxima over rows, each in one order.
#pragma once
#include "kernels/simd/math.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class T, class F>
RECURRA_INLINE void map_row(const T* x, T* y, ptrdiff_t n, const F& f) {
  typedef Vec<T> V;
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) store(y + i, f(load<V>(x + i, n - i)), n - i);
}

// log of x > 0, x normal: good to a few units in the last place, once a row.
RECURRA_INLINE float log_of(float x) { return __builtin_logf(x); }
RECURRA_INLINE double log_of(double x) { return __builtin_log(x); }

// A tree over the lanes: half as many each time. In registers, not by a loop over lanes in memory, which GCC 13.3 gets
// wrong for eight doubles.
template <class V, class F>
RECURRA_INLINE Lane<V> reduce_lanes(V v, const F& f) {
  if constexpr (sizeof(V) > 16)
    return reduce_lanes(f(low_half(v), high_half(v)), f);
  else if constexpr (lanes<V>() == 4)
    return f(f(v[0], v[2]), f(v[1], v[3]));
  else
    return f(v[0], v[1]);
}
template <class V>
RECURRA_INLINE Lane<V> sum_lanes(V v) {
  return reduce_lanes(v, [](auto a, auto b) { return a + b; });
}

// v with zeros behind the first n lanes.
template <class V>
RECURRA_INLINE V first_lanes(V v, ptrdiff_t n) {
  for (int l = n < 0 ? 0 : int(n); l < lanes<V>(); ++l) v[l] = 0;
  return v;
}

// f(i, left) gives the vector at i, of which `left` elements exist; the sum of them all.
template <class T, class F>
RECURRA_INLINE T sum_row(ptrdiff_t n, const F& f) {
  typedef Vec<T> V;
  constexpr ptrdiff_t L = lanes<V>();
  V sums = V{};
  ptrdiff_t i = 0;
  for (; i + L <= n; i += L) sums = sums + f(i, L);
  if (i < n) sums = sums + first_lanes<V>(f(i, n - i), n - i);
  return sum_lanes(sums);
}

template <class T>
T dot_row(const T* x, const T* y, ptrdiff_t n) {
  typedef Vec<T> V;
  return sum_row<T>(n, [=](ptrdiff_t i, ptrdiff_t left) { return load<V>(x + i, left) * load<V>(y + i, left); });
}

// y += a x
template <class T>
void add_scaled_row(T a, const T* x, T* y, ptrdiff_t n) {
  typedef Vec<T> V;
  const V factor = broadcast<V>(a);
  for (ptrdiff_t i = 0; i < n; i += lanes<V>())
    store(y + i, fma(factor, load<V>(x + i, n - i), load<V>(y + i, n - i)), n - i);
}

// y = max(x, y); NaN wins.
template <class T>
void keep_max_row(const T* x, T* y, ptrdiff_t n) {
  typedef Vec<T> V;
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V a = load<V>(x + i, n - i), b = load<V>(y + i, n - i);
    store(y + i, b >= a ? b : b != b ? b : a, n - i);
  }
}

// The gradient of a maximum y goes to the first x that equals it: dx = what is left of it, which is then 0.
template <class T>
void give_max_row(const T* x, const T* y, T* left, T* dx, ptrdiff_t n) {
  typedef Vec<T> V;
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V a = load<V>(x + i, n - i), b = load<V>(y + i, n - i), d = load<V>(left + i, n - i);
    store(dx + i, a == b ? d : V{}, n - i);
    store(left + i, a == b ? V{} : d, n - i);
  }
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
