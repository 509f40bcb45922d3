// Softmax over rows, its derivative and its logarithm.
#pragma once
#include "simd/rows.h"

namespace recurra::RECURRA_ISA {
namespace {

// Lanes summed in order.
template <class V>
RECURRA_INLINE Lane<V> sum_of(V v) {
  Lane<V> sum = 0;
  for (int l = 0; l < lanes<V>(); ++l) sum += v[l];
  return sum;
}

// The first n lanes of v, the rest zero.
template <class V>
RECURRA_INLINE V first_lanes(V v, ptrdiff_t n) {
  for (int l = lanes<V>() - 1; l >= n; --l) v[l] = 0;
  return v;
}

template <class T>
RECURRA_INLINE T largest(const T* x, ptrdiff_t n) {
  T most = x[0];
  for (ptrdiff_t i = 1; i < n; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

// x = softmax(scale x), scale > 0.
template <class T>
void softmax_row(T* x, ptrdiff_t n, T scale) {
  typedef Vec<T> V;
  const V most = broadcast<V>(largest(x, n)), factor = broadcast<V>(scale);
  V sums = V{};
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V e = first_lanes(exp(factor * (load<V>(x + i, n - i) - most)), n - i);
    store(x + i, e, n - i);
    sums = sums + e;
  }
  const V share = broadcast<V>(1 / sum_of(sums));
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) store(x + i, load<V>(x + i, n - i) * share, n - i);
}

// For y = softmax(scale x): dx = scale y (dy - y . dy). dy and dx may be the same.
template <class T>
void softmax_backward_row(const T* y, const T* dy, ptrdiff_t n, T scale, T* dx) {
  typedef Vec<T> V;
  V sums = V{};
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) sums = fma(load<V>(y + i, n - i), load<V>(dy + i, n - i), sums);
  const V mean = broadcast<V>(sum_of(sums)), factor = broadcast<V>(scale);
  for (ptrdiff_t i = 0; i < n; i += lanes<V>())
    store(dx + i, factor * load<V>(y + i, n - i) * (load<V>(dy + i, n - i) - mean), n - i);
}

template <class T>
void log_softmax_row(const T* x, T* y, ptrdiff_t n) {
  typedef Vec<T> V;
  const V most = broadcast<V>(largest(x, n));
  V sums = V{};
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) sums = sums + first_lanes(exp(load<V>(x + i, n - i) - most), n - i);
  const V rest = broadcast<V>(log_of(sum_of(sums)));
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) store(y + i, load<V>(x + i, n - i) - most - rest, n - i);
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
