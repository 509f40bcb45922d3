// Losses over the valid elements of a batch: the sum, how many, and the sum's gradient; so that means over ragged
// batches, accumulated steps and workers are exact. Padding of the gradient is zero. Sums are made in double, in one
// order.
#pragma once
#include "backend/backend.h"
#include "simd/call.h"

namespace recurra {

struct Loss {
  double sum, count;
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

// Targets that count must lie in [0, classes). The count is the sum of their weights.
template <class T>
Loss softmax_cross_entropy(const Batch&, ptrdiff_t classes, Sequence<const T> logits, Sequence<const int64_t> targets,
                           const LabelOptions<T>&, Sequence<T> gradient);
template <class T>
Loss binary_cross_entropy(const Batch&, ptrdiff_t features, Sequence<const T> logits, Sequence<const T> targets,
                          Sequence<T> gradient);

template <class T>
Loss mean_squared_error(const Batch&, ptrdiff_t features, Sequence<const T> predictions, Sequence<const T> targets,
                        Sequence<T> gradient);
template <class T>
Loss absolute_error(const Batch&, ptrdiff_t features, Sequence<const T> predictions, Sequence<const T> targets,
                    Sequence<T> gradient);
template <class T>
Loss huber(const Batch&, ptrdiff_t features, double delta, Sequence<const T> predictions, Sequence<const T> targets,
           Sequence<T> gradient);

// Targets have `features`, predictions for each of them one per quantile.
template <class T>
Loss quantile_loss(const Batch&, ptrdiff_t features, const std::vector<double>& quantiles,
                   Sequence<const T> predictions, Sequence<const T> targets, Sequence<T> gradient);
// Targets have `features`, predictions as many means, then as many logarithms of variances, taken as at least log(eps).
template <class T>
Loss gaussian_nll(const Batch&, ptrdiff_t features, double eps, Sequence<const T> predictions,
                  Sequence<const T> targets, Sequence<T> gradient);

}  // namespace recurra
