#include <cmath>

#include "cpu/device.h"
#include "cpu/ops/steps.h"

namespace recurra {
namespace {

// Calls f(row, step, n) for stretches of n values: a step's features, or whole rows where the function looks at each
// value alone and all arrays are contiguous.
template <class F>
void for_each_stretch(const Run& run, const Batch& batch, ptrdiff_t features, bool contiguous, const F& f) {
  if (!contiguous) {
    for_each_step(run, batch, [&](ptrdiff_t row, ptrdiff_t step) { f(row, step, features); });
    return;
  }
  constexpr ptrdiff_t kSteps = 256;  // between two looks at the clock
  for_each_task(batch.rows, run.threads, [&](ptrdiff_t row) {
    const ptrdiff_t length = batch.length(row);
    for (ptrdiff_t step = 0; step < length && !stopped(run); step += kSteps)
      f(row, step, std::min(kSteps, length - step) * features);
  });
}

template <class T, class F>
void map(const T* x, T* y, ptrdiff_t n, const F& f) {
  for (ptrdiff_t i = 0; i < n; ++i) y[i] = f(x[i]);
}

constexpr double kSeluAlpha = 1.6732632423543772, kSeluScale = 1.0507009873554805;  // Klambauer et al. 2017

// NaN stays NaN.
template <class T>
T bounded(T v, T low, T high) {
  return v < low ? low : v > high ? high : v;
}
template <class T>
T hard_sigmoid(T v) {
  return bounded(v / 6 + T(0.5), T(0), T(1));
}
// tanh(log(1 + e^v)) = ((1 + e^v)^2 - 1) / ((1 + e^v)^2 + 1), by the exponential that does not overflow.
template <class T>
T tanh_softplus(T v) {
  const T e = std::exp(-std::abs(v));
  return v > 0 ? (1 + 2 * e) / (1 + 2 * e + 2 * e * e) : e * (e + 2) / (e * (e + 2) + 2);
}
template <class T>
T logistic(T v) {
  const T e = std::exp(-std::abs(v));
  return (v > 0 ? 1 : e) / (1 + e);
}

template <class T>
void function_row(int kind, const T* x, T* y, ptrdiff_t n) {
  if (kind == kSqrt) return map(x, y, n, [](T v) { return std::sqrt(v); });
  if (kind == kSquare) return map(x, y, n, [](T v) { return v * v; });
  if (kind == kExp) return map(x, y, n, [](T v) { return std::exp(v); });
  if (kind == kLog) return map(x, y, n, [](T v) { return std::log(v); });
  if (kind == kHardSigmoid) return map(x, y, n, hard_sigmoid<T>);
  if (kind == kHardSwish) return map(x, y, n, [](T v) { return v * hard_sigmoid(v); });
  if (kind == kHardTanh) return map(x, y, n, [](T v) { return bounded(v, T(-1), T(1)); });
  if (kind == kRelu6) return map(x, y, n, [](T v) { return bounded(v, T(0), T(6)); });
  if (kind == kSelu)
    return map(x, y, n, [](T v) { return T(kSeluScale) * (v > 0 ? v : T(kSeluAlpha) * std::expm1(v)); });
  if (kind == kSoftsign)
    return map(x, y, n, [](T v) {
      const T finite = bounded(v, T(-1e30), T(1e30));
      return finite / (1 + std::abs(finite));
    });
  if (kind == kMish) return map(x, y, n, [](T v) { return v * tanh_softplus(v); });
  map(x, y, n, [](T v) { return std::abs(v); });
}

template <class T>
void function_gradient_row(int kind, const T* x, const T* y, const T* dy, T* dx, ptrdiff_t n) {
  const auto fill = [=](const auto& f) {
    for (ptrdiff_t i = 0; i < n; ++i) dx[i] = dy[i] * f(x[i], y[i]);
  };
  if (kind == kSqrt) return fill([](T, T root) { return T(0.5) / root; });
  if (kind == kSquare) return fill([](T v, T) { return 2 * v; });
  if (kind == kExp) return fill([](T, T power) { return power; });
  if (kind == kLog) return fill([](T v, T) { return 1 / v; });
  const auto within = [](T v, T low, T high) { return v != v ? v : T(low < v && v < high); };
  if (kind == kHardSigmoid) return fill([=](T v, T) { return within(v, -3, 3) / 6; });
  if (kind == kHardSwish)
    return fill([](T v, T) { return v <= -3 ? T(0) : v < 3 ? v / 3 + T(0.5) : v != v ? v : T(1); });
  if (kind == kHardTanh) return fill([=](T v, T) { return within(v, -1, 1); });
  if (kind == kRelu6) return fill([=](T v, T) { return within(v, 0, 6); });
  if (kind == kSelu) return fill([](T v, T y) { return v > 0 ? T(kSeluScale) : y + T(kSeluScale * kSeluAlpha); });
  if (kind == kSoftsign)
    return fill([](T v, T) {
      const T below = 1 / (1 + std::abs(v));
      return below * below;
    });
  if (kind == kMish)
    return fill([](T v, T) {
      const T t = tanh_softplus(v);
      return t + v * (1 - t * t) * logistic(v);
    });
  fill([](T v, T) { return v != v ? v : T(v > 0) - T(v < 0); });
}

}  // namespace

template <class T>
void CpuDevice<T>::activation(const Run& run, const Batch& batch, ptrdiff_t features, int kind, Sequence<const T> x,
                              Sequence<T> y) const {
  const auto kernel = kind < kActivations ? kernels<T>().rows.activation[kind] : nullptr;
  const auto f = [=](const T* from, T* to, ptrdiff_t n) {
    return kernel ? kernel(from, to, n) : function_row(kind, from, to, n);
  };
  const bool contiguous = kind != kSoftmax && x.step_stride == features && y.step_stride == features;
  for_each_stretch(run, batch, features, contiguous,
                   [&](ptrdiff_t row, ptrdiff_t step, ptrdiff_t n) { f(x.at(row, step), y.at(row, step), n); });
}

template <class T>
void CpuDevice<T>::activation_gradient(const Run& run, const Batch& batch, ptrdiff_t features, int kind,
                                       Sequence<const T> x, Sequence<const T> y, Sequence<const T> dy,
                                       Sequence<T> dx) const {
  const auto kernel = kind < kActivations ? kernels<T>().rows.activation_gradient[kind] : nullptr;
  const auto f = [=](const T* from, const T* value, const T* d, T* to, ptrdiff_t n) {
    return kernel ? kernel(from, value, d, to, n) : function_gradient_row(kind, from, value, d, to, n);
  };
  const bool contiguous = kind != kSoftmax && x.step_stride == features && y.step_stride == features &&
                          dy.step_stride == features && dx.step_stride == features;
  for_each_stretch(run, batch, features, contiguous, [&](ptrdiff_t row, ptrdiff_t step, ptrdiff_t n) {
    f(x.at(row, step), y.at(row, step), dy.at(row, step), dx.at(row, step), n);
  });
}

template <class T>
void CpuDevice<T>::prelu(const Run& run, const Batch& batch, ptrdiff_t features, const T* slopes, Sequence<const T> x,
                         Sequence<T> y) const {
  for_each_step(run, batch, [&](ptrdiff_t row, ptrdiff_t step) {
    const T* from = x.at(row, step);
    T* to = y.at(row, step);
    for (ptrdiff_t k = 0; k < features; ++k) to[k] = from[k] > 0 ? from[k] : slopes[k] * from[k];
  });
}

template <class T>
void CpuDevice<T>::prelu_gradient(const Run& run, const Batch& batch, ptrdiff_t features, const T* slopes,
                                  Sequence<const T> x, Sequence<const T> dy, Sequence<T> dx, T* dslopes) const {
  sum_over_steps(run, batch, features, dslopes, [&](ptrdiff_t row, ptrdiff_t step, T* sums) {
    const T *from = x.at(row, step), *d = dy.at(row, step);
    for (ptrdiff_t k = 0; k < features; ++k) sums[k] += from[k] > 0 ? T(0) : from[k] * d[k];
  });
  if (!dx.data) return;
  for_each_step(run, batch, [&](ptrdiff_t row, ptrdiff_t step) {
    const T *from = x.at(row, step), *d = dy.at(row, step);
    T* to = dx.at(row, step);
    for (ptrdiff_t k = 0; k < features; ++k) to[k] = from[k] > 0 ? d[k] : slopes[k] * d[k];
  });
}

#define RECURRA_INSTANCES(T)                                                                                       \
  template void CpuDevice<T>::activation(const Run&, const Batch&, ptrdiff_t, int, Sequence<const T>, Sequence<T>) \
      const;                                                                                                       \
  template void CpuDevice<T>::activation_gradient(const Run&, const Batch&, ptrdiff_t, int, Sequence<const T>,     \
                                                  Sequence<const T>, Sequence<const T>, Sequence<T>) const;        \
  template void CpuDevice<T>::prelu(const Run&, const Batch&, ptrdiff_t, const T*, Sequence<const T>, Sequence<T>) \
      const;                                                                                                       \
  template void CpuDevice<T>::prelu_gradient(const Run&, const Batch&, ptrdiff_t, const T*, Sequence<const T>,     \
                                             Sequence<const T>, Sequence<T>, T*) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
