#include <cmath>

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

namespace {

// The numbers of each group for each of its features.
template <class T>
void spread_groups(const GroupNorms<T>& call, const T* groups, T* to) {
  const ptrdiff_t size = call.channels / call.groups;
  for (ptrdiff_t k = 0; k < call.features; ++k) to[k] = groups[k % call.channels / size];
}

// groups = the sums over their features, times share.
template <class T>
void sum_groups(const GroupNorms<T>& call, const T* from, T share, T* groups) {
  const ptrdiff_t size = call.channels / call.groups;
  std::fill_n(groups, call.groups, T(0));
  for (ptrdiff_t k = 0; k < call.features; ++k) groups[k % call.channels / size] += from[k];
  for (ptrdiff_t g = 0; g < call.groups; ++g) groups[g] *= share;
}

// Calls f(row, steps, scratch (6 features)) for rows with steps.
template <class T, class F>
void for_each_normed_row(const Run& run, const GroupNorms<T>& call, const F& f) {
  const ptrdiff_t n = 6 * call.features;
  T* const scratch = run.arena.template take<T>(size_t(call.batch->rows * n));
  for_each_task(call.batch->rows, run.threads, [&](ptrdiff_t row) {
    const ptrdiff_t steps = call.batch->length(row);
    if (steps && !stopped(run)) f(row, steps, scratch + row * n);
  });
}

}  // namespace

template <class T>
void CpuDevice<T>::group_norm(const Run& run, const GroupNorms<T>& call, const T* shift, Sequence<const T> x,
                              Sequence<T> y) const {
  const RowKernels<T>& rows = kernels<T>().rows;
  const ptrdiff_t n = call.features;
  for_each_normed_row(run, call, [&](ptrdiff_t row, ptrdiff_t steps, T* scratch) {
    T *mean = call.statistics.at(row), *rstd = mean + call.groups;
    T *means = scratch, *scale = means + n, *sums = scale + n, *part = sums + n;
    const T share = 1 / (T(steps) * T(n / call.groups));
    sum_steps(steps, n, sums, part, [&](ptrdiff_t s, T* to) { rows.add_scaled(T(1), x.at(row, s), to, n); });
    sum_groups(call, sums, share, mean);
    spread_groups(call, mean, means);
    sum_steps(steps, n, sums, part, [&](ptrdiff_t s, T* to) { rows.add_squares(x.at(row, s), means, to, n); });
    sum_groups(call, sums, share, rstd);
    for (ptrdiff_t g = 0; g < call.groups; ++g) rstd[g] = 1 / std::sqrt(rstd[g] + call.eps);
    spread_groups(call, rstd, scale);
    for (ptrdiff_t k = 0; k < n; ++k) scale[k] *= call.gain[k];
    for (ptrdiff_t s = 0; s < steps && !stopped(run); ++s)
      rows.normalise(x.at(row, s), means, scale, shift, y.at(row, s), n);
  });
}

// With M values in a group, hat = (x - mean) rstd and g = dy gain:
// dx = rstd (g - sum of g / M - hat (sum of g hat / M)).
template <class T>
void CpuDevice<T>::group_norm_gradient(const Run& run, const GroupNorms<T>& call, Sequence<const T> x,
                                       Sequence<const T> dy, Sequence<T> dx, T* dgain, T* dshift) const {
  const RowKernels<T>& rows = kernels<T>().rows;
  const ptrdiff_t n = call.features;
  T* const by_row = run.arena.template take<T>(size_t(call.batch->rows * 2 * n));
  std::fill_n(by_row, call.batch->rows * 2 * n, T(0));
  for_each_normed_row(run, call, [&](ptrdiff_t row, ptrdiff_t steps, T* scratch) {
    const T *mean = call.statistics.at(row), *rstd = mean + call.groups;
    T *of_scale = by_row + row * 2 * n, *of_shift = of_scale + n;
    T *means = scratch, *scale = means + n, *part = scale + n, *products = part, *groups = part + n, *a = part + 2 * n,
      *b = a + n;
    const T share = 1 / (T(steps) * T(n / call.groups));
    spread_groups(call, mean, means);
    spread_groups(call, rstd, scale);
    // Sums of dy (x - mean) and of dy, side by side.
    sum_steps(steps, 2 * n, of_scale, part,
              [&](ptrdiff_t s, T* to) { rows.normalise_sums(x.at(row, s), means, dy.at(row, s), to, to + n, n); });
    for (ptrdiff_t k = 0; k < n; ++k) of_scale[k] *= scale[k];
    if (!dx.data) return;
    for (ptrdiff_t k = 0; k < n; ++k) products[k] = call.gain[k] * of_shift[k];
    sum_groups(call, products, share, groups);
    spread_groups(call, groups, a);
    for (ptrdiff_t k = 0; k < n; ++k) products[k] = call.gain[k] * of_scale[k];
    sum_groups(call, products, share, groups);
    spread_groups(call, groups, b);
    for (ptrdiff_t s = 0; s < steps && !stopped(run); ++s) {
      const T *from = x.at(row, s), *d = dy.at(row, s);
      T* to = dx.at(row, s);
      for (ptrdiff_t k = 0; k < n; ++k)
        to[k] = scale[k] * (call.gain[k] * d[k] - a[k] - (from[k] - means[k]) * scale[k] * b[k]);
    }
  });
  for (ptrdiff_t row = 0; row < call.batch->rows; ++row) {
    rows.add_scaled(T(1), by_row + row * 2 * n, dgain, n);
    rows.add_scaled(T(1), by_row + (row * 2 + 1) * n, dshift, n);
  }
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
                                                    Sequence<const T>, Sequence<const T>, Sequence<T>, T*, T*) const; \
  template void CpuDevice<T>::group_norm(const Run&, const GroupNorms<T>&, const T*, Sequence<const T>, Sequence<T>)  \
      const;                                                                                                          \
  template void CpuDevice<T>::group_norm_gradient(const Run&, const GroupNorms<T>&, Sequence<const T>,                \
                                                  Sequence<const T>, Sequence<T>, T*, T*) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
