#include "cpu/device.h"
#include "cpu/ops/steps.h"

namespace recurra {

template <class T>
void CpuDevice<T>::layer_norm(const Run& run, const Batch& batch, ptrdiff_t features, T eps, const T* gain,
                              const T* shift, Sequence<const T> x, Sequence<T> y, Sequence<T> statistics) const {
  for_each_step(run, batch, [&](ptrdiff_t row, ptrdiff_t step) {
    kernels<T>().rows.layer_norm(x.at(row, step), gain, shift, eps, features, y.at(row, step),
                                 statistics.at(row, step));
  });
}

template <class T>
void CpuDevice<T>::layer_norm_gradient(const Run& run, const Batch& batch, ptrdiff_t features, const T* gain,
                                       Sequence<const T> statistics, Sequence<const T> x, Sequence<const T> dy,
                                       Sequence<T> dx, T* dgain, T* dshift) const {
  T* sums = run.arena.template take<T>(size_t(2 * features));
  std::fill_n(sums, 2 * features, T(0));
  sum_over_steps(run, batch, 2 * features, sums, [&](ptrdiff_t row, ptrdiff_t step, T* to) {
    kernels<T>().rows.layer_norm_gradient(x.at(row, step), statistics.at(row, step), gain, dy.at(row, step), features,
                                          dx.data ? dx.at(row, step) : nullptr, to, to + features);
  });
  kernels<T>().rows.add_scaled(T(1), sums, dgain, features);
  kernels<T>().rows.add_scaled(T(1), sums + features, dshift, features);
}

template <class T>
void CpuDevice<T>::feature_statistics(const Run& run, const Batch& batch, ptrdiff_t features, Sequence<const T> x,
                                      T* mean, T* variance) const {
  const T count = T(batch.tokens());
  std::fill_n(mean, features, T(0));
  std::fill_n(variance, features, T(0));
  sum_over_steps(run, batch, features, mean, [&](ptrdiff_t row, ptrdiff_t step, T* sums) {
    kernels<T>().rows.add_scaled(T(1), x.at(row, step), sums, features);
  });
  for (ptrdiff_t k = 0; k < features; ++k) mean[k] /= count;
  sum_over_steps(run, batch, features, variance, [&](ptrdiff_t row, ptrdiff_t step, T* sums) {
    kernels<T>().rows.add_squares(x.at(row, step), mean, sums, features);
  });
  for (ptrdiff_t k = 0; k < features; ++k) variance[k] /= count;
}

namespace {

// rstd gain, by which a feature's deviation from its mean is multiplied.
template <class T>
T* scale_of(const Run& run, ptrdiff_t features, const FeatureNorm<T>& norm) {
  T* scale = run.arena.template take<T>(size_t(features));
  for (ptrdiff_t k = 0; k < features; ++k) scale[k] = norm.rstd[k] * norm.gain[k];
  return scale;
}

}  // namespace

template <class T>
void CpuDevice<T>::feature_norm(const Run& run, const Batch& batch, ptrdiff_t features, const FeatureNorm<T>& norm,
                                const T* shift, Sequence<const T> x, Sequence<T> y) const {
  const T* scale = scale_of(run, features, norm);
  for_each_step(run, batch, [&](ptrdiff_t row, ptrdiff_t step) {
    kernels<T>().rows.normalise(x.at(row, step), norm.mean, scale, shift, y.at(row, step), features);
  });
}

// With M steps, dx = scale (dy - (sum of dy + (x - mean) rstd^2 sum of dy (x - mean)) / M): the latter two come by way
// of the statistics.
template <class T>
void CpuDevice<T>::feature_norm_gradient(const Run& run, const Batch& batch, ptrdiff_t features,
                                         const FeatureNorm<T>& norm, bool of_batch, Sequence<const T> x,
                                         Sequence<const T> dy, Sequence<T> dx, T* dgain, T* dshift) const {
  T *sums = run.arena.template take<T>(size_t(2 * features)), *by_mean = sums + features, *by_scale = sums;
  std::fill_n(sums, 2 * features, T(0));
  sum_over_steps(run, batch, 2 * features, sums, [&](ptrdiff_t row, ptrdiff_t step, T* to) {
    kernels<T>().rows.normalise_sums(x.at(row, step), norm.mean, dy.at(row, step), to, to + features, features);
  });
  const T share = of_batch ? 1 / T(std::max<ptrdiff_t>(1, batch.tokens())) : T(0);
  for (ptrdiff_t k = 0; k < features; ++k) {
    dgain[k] += by_scale[k] * norm.rstd[k];
    dshift[k] += by_mean[k];
    by_mean[k] *= share;
    by_scale[k] *= share * norm.rstd[k] * norm.rstd[k];
  }
  if (!dx.data) return;
  const T* scale = scale_of(run, features, norm);
  for_each_step(run, batch, [&](ptrdiff_t row, ptrdiff_t step) {
    kernels<T>().rows.normalise_gradient(x.at(row, step), norm.mean, scale, by_mean, by_scale, dy.at(row, step),
                                         dx.at(row, step), features);
  });
}

#define RECURRA_INSTANCES(T)                                                                                          \
  template void CpuDevice<T>::layer_norm(const Run&, const Batch&, ptrdiff_t, T, const T*, const T*,                  \
                                         Sequence<const T>, Sequence<T>, Sequence<T>) const;                          \
  template void CpuDevice<T>::layer_norm_gradient(const Run&, const Batch&, ptrdiff_t, const T*, Sequence<const T>,   \
                                                  Sequence<const T>, Sequence<const T>, Sequence<T>, T*, T*) const;   \
  template void CpuDevice<T>::feature_statistics(const Run&, const Batch&, ptrdiff_t, Sequence<const T>, T*, T*)      \
      const;                                                                                                          \
  template void CpuDevice<T>::feature_norm(const Run&, const Batch&, ptrdiff_t, const FeatureNorm<T>&, const T*,      \
                                           Sequence<const T>, Sequence<T>) const;                                     \
  template void CpuDevice<T>::feature_norm_gradient(const Run&, const Batch&, ptrdiff_t, const FeatureNorm<T>&, bool, \
                                                    Sequence<const T>, Sequence<const T>, Sequence<T>, T*, T*) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
