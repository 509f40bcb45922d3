// The softmax of a row and its gradient.
#pragma once
#include "simd/vectors.h"

namespace recurra::RECURRA_ISA {
namespace {

// y (null: not wanted) = e^(x - max x); the sum of that.
template <class T>
T exponentials(const T* x, ptrdiff_t n, T* y, T& most) {
  typedef Vec<T> V;
  most = x[0];
  for (ptrdiff_t i = 1; i < n; ++i) most = x[i] > most ? x[i] : most;
  V sums = V{};
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V e = first_lanes(exp(load<V>(x + i, n - i) - broadcast<V>(most)), n - i);
    if (y) store(y + i, e, n - i);
    sums = sums + e;
  }
  return sum_lanes<T>(sums);
}

template <class T>
void softmax_row(const T* x, T* y, ptrdiff_t n) {
  typedef Vec<T> V;
  T most;
  const V scale = broadcast<V>(1 / exponentials(x, n, y, most));
  map_row(y, y, n, [&](V v) { return v * scale; });
}

// dx = y (dy - sum of y dy)
template <class T>
void softmax_gradient_row(const T*, const T* y, const T* dy, T* dx, ptrdiff_t n) {
  typedef Vec<T> V;
  const V sum = broadcast<V>(dot_row(y, dy, n));
  for (ptrdiff_t i = 0; i < n; i += lanes<V>())
    store(dx + i, load<V>(y + i, n - i) * (load<V>(dy + i, n - i) - sum), n - i);
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
