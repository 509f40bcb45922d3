#include "losses/losses.h"

#include <vector>

#include "backend/isa.h"
#include "platform/tasks.h"

namespace recurra {
namespace {

constexpr double kParallelElements = 1 << 15;

// `element(row, step)` gives a step's loss.
template <class T, class F>
Loss sum_steps(const Batch& batch, ptrdiff_t features, ptrdiff_t counted, Sequence<T> gradient, const F& element) {
  std::vector<double> sums(size_t(batch.rows));
  const int threads = double(batch.tokens()) * double(features) < kParallelElements ? 1 : num_threads();
  for_each_task(batch.rows, threads, [&](ptrdiff_t row) {
    for (ptrdiff_t step = 0; step < batch.length(row); ++step) sums[size_t(row)] += element(row, step);
  });
  if (gradient.data) cpu_backend<T>().zero_padding(batch, features, gradient);
  Loss loss = {0, batch.tokens() * counted};
  for (double sum : sums) loss.sum += sum;
  return loss;
}

template <class T>
T* gradient_at(Sequence<T> gradient, ptrdiff_t row, ptrdiff_t step) {
  return gradient.data ? gradient.at(row, step) : nullptr;
}

}  // namespace

template <class T>
Loss softmax_cross_entropy(const Batch& batch, ptrdiff_t classes, Sequence<const T> logits,
                           Sequence<const int64_t> targets, Sequence<T> gradient) {
  return sum_steps<T>(batch, classes, 1, gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    return double(kernels<T>().rows.softmax_cross_entropy(logits.at(row, step), classes, *targets.at(row, step),
                                                          gradient_at(gradient, row, step)));
  });
}

template <class T>
Loss binary_cross_entropy(const Batch& batch, ptrdiff_t features, Sequence<const T> logits, Sequence<const T> targets,
                          Sequence<T> gradient) {
  return sum_steps<T>(batch, features, features, gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    return double(kernels<T>().rows.binary_cross_entropy(logits.at(row, step), targets.at(row, step), features,
                                                         gradient_at(gradient, row, step)));
  });
}

template <class T>
Loss mean_squared_error(const Batch& batch, ptrdiff_t features, Sequence<const T> predictions,
                        Sequence<const T> targets, Sequence<T> gradient) {
  return sum_steps<T>(batch, features, features, gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    const T* x = predictions.at(row, step);
    const T* y = targets.at(row, step);
    T* d = gradient_at(gradient, row, step);
    double sum = 0;
    for (ptrdiff_t k = 0; k < features; ++k) {
      const T error = x[k] - y[k];
      sum += double(error) * double(error);
      if (d) d[k] = 2 * error;
    }
    return sum;
  });
}

#define RECURRA_INSTANTIATE(T)                                                                                    \
  template Loss softmax_cross_entropy(const Batch&, ptrdiff_t, Sequence<const T>, Sequence<const int64_t>,        \
                                      Sequence<T>);                                                               \
  template Loss binary_cross_entropy(const Batch&, ptrdiff_t, Sequence<const T>, Sequence<const T>, Sequence<T>); \
  template Loss mean_squared_error(const Batch&, ptrdiff_t, Sequence<const T>, Sequence<const T>, Sequence<T>)
RECURRA_INSTANTIATE(float);
RECURRA_INSTANTIATE(double);

}  // namespace recurra
