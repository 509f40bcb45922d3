// Elementwise maths over rows: losses, and the functions of simd/math.h for tests and measurements.
#pragma once
#include "simd/softmax.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class T>
void exp_row(const T* x, T* y, ptrdiff_t n) {
  map_row(x, y, n, [](Vec<T> v) { return exp(v); });
}
template <class T>
void tanh_row(const T* x, T* y, ptrdiff_t n) {
  map_row(x, y, n, [](Vec<T> v) { return tanh(v); });
}
template <class T>
void sigmoid_row(const T* x, T* y, ptrdiff_t n) {
  map_row(x, y, n, [](Vec<T> v) { return sigmoid(v); });
}

// log of x > 0, x normal: good to a few units in the last place, once a row.
RECURRA_INLINE float log_of(float x) { return __builtin_logf(x); }
RECURRA_INLINE double log_of(double x) { return __builtin_log(x); }
RECURRA_INLINE float log1p_of(float x) { return __builtin_log1pf(x); }
RECURRA_INLINE double log1p_of(double x) { return __builtin_log1p(x); }

template <class T>
T softmax_cross_entropy_row(const T* x, ptrdiff_t n, ptrdiff_t target, T* gradient) {
  T most;
  const T sum = exponentials(x, n, gradient, most);
  if (gradient) {
    const Vec<T> scale = broadcast<Vec<T>>(1 / sum);
    map_row(gradient, gradient, n, [&](Vec<T> v) { return v * scale; });
    gradient[target] -= 1;
  }
  return log_of(sum) - (x[target] - most);
}

template <class T>
T binary_cross_entropy_row(const T* x, const T* y, ptrdiff_t n, T* gradient) {
  typedef Vec<T> V;
  T sum = 0;
  for (ptrdiff_t i = 0; i < n; ++i) {
    const T size = x[i] < 0 ? -x[i] : x[i];
    sum += (x[i] > 0 ? x[i] : 0) - x[i] * y[i] + log1p_of(__builtin_exp(double(-size)));
  }
  if (gradient)
    for (ptrdiff_t i = 0; i < n; i += lanes<V>())
      store(gradient + i, sigmoid(load<V>(x + i, n - i)) - load<V>(y + i, n - i), n - i);
  return sum;
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
