// Losses: the sum over the valid steps of a batch, and its gradient, whose padding is zero. Sums are made in double, in
// one order. What they are to be divided by is the caller's matter.
#pragma once
#include "device/device.h"
#include "kernels/rows/call.h"

namespace recurra {

// A batch whose steps may have weights, at least 0, that multiply loss and gradient. Nothing is read where they are 0.
struct LossBatch : Batch {
  Sequence<const double> weights;  // data null: 1
  Stop* stop;                      // null: do not poll; once it is requested, neither sum nor gradient is of use
  double weight(ptrdiff_t row, ptrdiff_t step) const { return weights.data ? *weights.at(row, step) : 1; }
};

// Which labels count, and how much.
template <class T>
struct LabelOptions {
  const ClassWeights<T>* classes;  // null: all alike, nothing smoothed
  const int64_t* ignored;          // a label whose steps do not count; null: none
  bool counts(int64_t label) const { return !ignored || label != *ignored; }
  bool has_weights() const { return classes && classes->weights; }
};

// In all of these, gradient.data null: not wanted.

// Targets that count must lie in [0, classes).
template <class T>
double softmax_cross_entropy(const LossBatch&, ptrdiff_t classes, Sequence<const T> logits,
                             Sequence<const int64_t> targets, const LabelOptions<T>&, Sequence<T> gradient);
template <class T>
double binary_cross_entropy(const LossBatch&, ptrdiff_t features, Sequence<const T> logits, Sequence<const T> targets,
                            Sequence<T> gradient);

template <class T>
double mean_squared_error(const LossBatch&, ptrdiff_t features, Sequence<const T> predictions,
                          Sequence<const T> targets, Sequence<T> gradient);
template <class T>
double absolute_error(const LossBatch&, ptrdiff_t features, Sequence<const T> predictions, Sequence<const T> targets,
                      Sequence<T> gradient);
template <class T>
double huber(const LossBatch&, ptrdiff_t features, double delta, Sequence<const T> predictions,
             Sequence<const T> targets, Sequence<T> gradient);

// Targets have `features`, predictions for each of them one per quantile.
template <class T>
double quantile_loss(const LossBatch&, ptrdiff_t features, const std::vector<double>& quantiles,
                     Sequence<const T> predictions, Sequence<const T> targets, Sequence<T> gradient);
// Targets have `features`, predictions as many means, then as many logarithms of variances, taken as at least log(eps).
template <class T>
double gaussian_nll(const LossBatch&, ptrdiff_t features, double eps, Sequence<const T> predictions,
                    Sequence<const T> targets, Sequence<T> gradient);

}  // namespace recurra
