// Elementwise maths over rows: losses, and the functions of kernels/simd/math.h for tests and measurements.
#pragma once
#include "kernels/rows/call.h"
#include "kernels/rows/softmax.h"

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

RECURRA_INLINE float log1p_of(float x) { return __builtin_log1pf(x); }
RECURRA_INLINE double log1p_of(double x) { return __builtin_log1p(x); }

template <class T>
T softmax_cross_entropy_row(const T* x, ptrdiff_t n, ptrdiff_t target, T* gradient) {
  const Softmax<T> made = softmax(x, n, gradient);
  if (gradient) gradient[target] -= 1;
  return log_of(made.sum) - (x[target] - made.most);
}

// With e the share of the target that is spread over all classes, w_c their weights (null: 1), W the weights' sum:
//   (1 - e) w_target nll_target + e / n sum of w_c nll_c,   nll_c = nll_target - (x_c - x_target).
template <class T>
T weighted_cross_entropy_row(const T* x, ptrdiff_t n, ptrdiff_t target, const ClassWeights<T>& classes, T* gradient) {
  typedef Vec<T> V;
  const T nll = softmax_cross_entropy_row(x, n, target, gradient);
  const T own = (1 - classes.smoothing) * (classes.weights ? classes.weights[target] : 1);
  const T spread = classes.smoothing / T(n), everywhere = spread * classes.sum;
  const auto weights = [&](ptrdiff_t i) {
    return classes.weights ? load<V>(classes.weights + i, n - i) : constant<V>(1);
  };
  if (gradient) {
    const V scale = broadcast<V>(own + everywhere), share = broadcast<V>(spread);
    for (ptrdiff_t i = 0; i < n; i += lanes<V>())
      store(gradient + i, load<V>(gradient + i, n - i) * scale - share * weights(i), n - i);
    gradient[target] += everywhere;
  }
  if (spread == 0) return own * nll;  // where x may be infinite
  V sums = V{};
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V ahead = first_lanes(load<V>(x + i, n - i) - broadcast<V>(x[target]), n - i);
    sums = fma(ahead, weights(i), sums);
  }
  return own * nll + (everywhere * nll - spread * sum_lanes(sums));
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
