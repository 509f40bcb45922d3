// Losses over the valid elements of a batch: the sum, how many, and the sum's gradient; so that means over ragged
// batches, accumulated steps and workers are exact. Padding of the gradient is zero. Sums are made in double, in one
// order.
#pragma once
#include "backend/backend.h"

namespace recurra {

struct Loss {
  double sum;
  int64_t count;
};

// gradient.data null: not wanted. Targets must lie in [0, classes).
template <class T>
Loss softmax_cross_entropy(const Batch&, ptrdiff_t classes, Sequence<const T> logits, Sequence<const int64_t> targets,
                           Sequence<T> gradient);
template <class T>
Loss binary_cross_entropy(const Batch&, ptrdiff_t features, Sequence<const T> logits, Sequence<const T> targets,
                          Sequence<T> gradient);
template <class T>
Loss mean_squared_error(const Batch&, ptrdiff_t features, Sequence<const T> predictions, Sequence<const T> targets,
                        Sequence<T> gradient);

}  // namespace recurra
