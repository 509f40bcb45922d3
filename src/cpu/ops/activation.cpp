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

template <class T>
void function_row(int kind, const T* x, T* y, ptrdiff_t n) {
  if (kind == kSqrt) return map(x, y, n, [](T v) { return std::sqrt(v); });
  if (kind == kSquare) return map(x, y, n, [](T v) { return v * v; });
  if (kind == kExp) return map(x, y, n, [](T v) { return std::exp(v); });
  if (kind == kLog) return map(x, y, n, [](T v) { return std::log(v); });
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

#define RECURRA_INSTANCES(T)                                                                                       \
  template void CpuDevice<T>::activation(const Run&, const Batch&, ptrdiff_t, int, Sequence<const T>, Sequence<T>) \
      const;                                                                                                       \
  template void CpuDevice<T>::activation_gradient(const Run&, const Batch&, ptrdiff_t, int, Sequence<const T>,     \
                                                  Sequence<const T>, Sequence<const T>, Sequence<T>) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
