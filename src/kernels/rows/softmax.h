// The softmax of a row and its gradient.
#pragma once
#include "kernels/simd/vectors.h"

namespace recurra::RECURRA_ISA {
namespace {

// The largest of n >= 1 values. A NaN among them may be passed over.
template <class T>
RECURRA_INLINE T largest_of(const T* x, ptrdiff_t n) {
  typedef Vec<T> V;
  constexpr int L = lanes<V>();
  T most = x[0];
  if (n < L) {
    for (ptrdiff_t i = 1; i < n; ++i) most = x[i] > most ? x[i] : most;
    return most;
  }
  V v = load<V>(x + n - L);  // the last vector's worth, some of which the loop may meet again
  for (ptrdiff_t i = 0; i + L < n; i += L) v = max(load<V>(x + i), v);
  return reduce_lanes(v, [](auto a, auto b) { return a > b ? a : b; });
}

template <class T>
struct Softmax {
  T most, sum;  // of x; of e^(scale (x - most))
};

// y (null: not wanted) = softmax(scale x), scale > 0. x and y may be the same.
template <class T>
RECURRA_INLINE Softmax<T> softmax(const T* x, ptrdiff_t n, T* y, T scale = 1) {
  typedef Vec<T> V;
  const T most = largest_of(x, n);
  V sums = V{};
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V e = first_lanes(exp(broadcast<V>(scale) * (load<V>(x + i, n - i) - broadcast<V>(most))), n - i);
    if (y) store(y + i, e, n - i);
    sums = sums + e;
  }
  const T sum = sum_lanes(sums);
  if (y) map_row(y, y, n, [share = broadcast<V>(1 / sum)](V v) { return v * share; });
  return {most, sum};
}

// Of y = softmax(scale x): dx = scale y (dy - sum of y dy). dy and dx may be the same.
template <class T>
RECURRA_INLINE void softmax_gradient(const T* y, const T* dy, T* dx, ptrdiff_t n, T scale = 1) {
  typedef Vec<T> V;
  const V sum = broadcast<V>(dot_row(y, dy, n)), factor = broadcast<V>(scale);
  for (ptrdiff_t i = 0; i < n; i += lanes<V>())
    store(dx + i, factor * load<V>(y + i, n - i) * (load<V>(dy + i, n - i) - sum), n - i);
}

// As they are in the table: among the activations, and of attention's scores.
template <class T>
void softmax_row(const T* x, T* y, ptrdiff_t n) {
  softmax(x, n, y);
}
template <class T>
void softmax_gradient_row(const T*, const T* y, const T* dy, T* dx, ptrdiff_t n) {
  softmax_gradient(y, dy, dx, n);
}
template <class T>
void scaled_softmax_row(T* x, ptrdiff_t n, T scale) {
  softmax(static_cast<const T*>(x), n, x, scale);
}
template <class T>
void scaled_softmax_gradient_row(const T* y, const T* dy, ptrdiff_t n, T scale, T* dx) {
  softmax_gradient(y, dy, dx, n, scale);
}

template <class T>
void log_softmax_row(const T* x, T* y, ptrdiff_t n) {
  typedef Vec<T> V;
  const Softmax<T> made = softmax(x, n, static_cast<T*>(nullptr));
  map_row(x, y, n,
          [most = broadcast<V>(made.most), rest = broadcast<V>(log_of(made.sum))](V v) { return v - most - rest; });
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
