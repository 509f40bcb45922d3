// Normalised rows: (x - mean) rstd gain + shift, with statistics of the row (layer norm) or of each feature over a
// batch (batch norm), and the gradients.
#pragma once
#include "kernels/simd/vectors.h"

namespace recurra::RECURRA_ISA {
namespace {

// Leaves the mean and 1 / sqrt(variance + eps) in statistics[2].
template <class T>
void layer_norm_row(const T* x, const T* gain, const T* shift, T eps, ptrdiff_t n, T* y, T* statistics) {
  typedef Vec<T> V;
  const T mean = sum_row<T>(n, [=](ptrdiff_t i, ptrdiff_t left) { return load<V>(x + i, left); }) / T(n);
  const V m = broadcast<V>(mean);
  const T variance = sum_row<T>(n,
                                [=](ptrdiff_t i, ptrdiff_t left) {
                                  const V d = load<V>(x + i, left) - m;
                                  return d * d;
                                }) /
                     T(n);
  statistics[0] = mean;
  statistics[1] = 1 / sqrt(variance + eps);
  const V rstd = broadcast<V>(statistics[1]);
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V hat = (load<V>(x + i, n - i) - m) * rstd;
    store(y + i, fma(hat, load<V>(gain + i, n - i), load<V>(shift + i, n - i)), n - i);
  }
}

// dx (null: not wanted) = rstd (g - mean of g - hat (mean of g hat)), g = dy gain; dgain += dy hat, dshift += dy.
template <class T>
void layer_norm_gradient_row(const T* x, const T* statistics, const T* gain, const T* dy, ptrdiff_t n, T* dx, T* dgain,
                             T* dshift) {
  typedef Vec<T> V;
  const V m = broadcast<V>(statistics[0]), rstd = broadcast<V>(statistics[1]);
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V d = load<V>(dy + i, n - i), hat = (load<V>(x + i, n - i) - m) * rstd;
    store(dgain + i, fma(d, hat, load<V>(dgain + i, n - i)), n - i);
    store(dshift + i, load<V>(dshift + i, n - i) + d, n - i);
  }
  if (!dx) return;
  const V of_g = broadcast<V>(dot_row(dy, gain, n) / T(n));
  const V of_g_hat = broadcast<V>(sum_row<T>(n,
                                             [=](ptrdiff_t i, ptrdiff_t left) {
                                               const V g = load<V>(dy + i, left) * load<V>(gain + i, left);
                                               return g * ((load<V>(x + i, left) - m) * rstd);
                                             }) /
                                  T(n));
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V hat = (load<V>(x + i, n - i) - m) * rstd, g = load<V>(dy + i, n - i) * load<V>(gain + i, n - i);
    store(dx + i, rstd * fma(-hat, of_g_hat, g - of_g), n - i);
  }
}

// From here on a statistic for each feature.

// sums += (x - mean)^2
template <class T>
void add_squares_row(const T* x, const T* mean, T* sums, ptrdiff_t n) {
  typedef Vec<T> V;
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V d = load<V>(x + i, n - i) - load<V>(mean + i, n - i);
    store(sums + i, fma(d, d, load<V>(sums + i, n - i)), n - i);
  }
}

// y = (x - mean) scale + shift
template <class T>
void normalise_row(const T* x, const T* mean, const T* scale, const T* shift, T* y, ptrdiff_t n) {
  typedef Vec<T> V;
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V d = load<V>(x + i, n - i) - load<V>(mean + i, n - i);
    store(y + i, fma(d, load<V>(scale + i, n - i), load<V>(shift + i, n - i)), n - i);
  }
}

// dshift += dy, dscale += dy (x - mean)
template <class T>
void normalise_sums_row(const T* x, const T* mean, const T* dy, T* dscale, T* dshift, ptrdiff_t n) {
  typedef Vec<T> V;
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V d = load<V>(dy + i, n - i), centred = load<V>(x + i, n - i) - load<V>(mean + i, n - i);
    store(dscale + i, fma(d, centred, load<V>(dscale + i, n - i)), n - i);
    store(dshift + i, load<V>(dshift + i, n - i) + d, n - i);
  }
}

// dx = scale (dy - a - (x - mean) b)
template <class T>
void normalise_gradient_row(const T* x, const T* mean, const T* scale, const T* a, const T* b, const T* dy, T* dx,
                            ptrdiff_t n) {
  typedef Vec<T> V;
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V centred = load<V>(x + i, n - i) - load<V>(mean + i, n - i), d = load<V>(dy + i, n - i);
    store(dx + i, load<V>(scale + i, n - i) * fma(-centred, load<V>(b + i, n - i), d - load<V>(a + i, n - i)), n - i);
  }
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
