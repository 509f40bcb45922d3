// What losses that are sums over steps share.
#pragma once
#include <vector>

#include "losses/losses.h"
#include "platform/tasks.h"

namespace recurra {

// Fewer elements than this are done by the caller alone.
constexpr double kParallelElements = 1 << 15;

// `term(row, step)` gives a step's loss; `features` are the predictions of a step.
template <class T, class F>
Loss sum_steps(const Batch& batch, ptrdiff_t features, double count, Sequence<T> gradient, const F& term) {
  std::vector<double> sums(size_t(batch.rows));
  const int threads = double(batch.tokens()) * double(features) < kParallelElements ? 1 : num_threads();
  for_each_task(batch.rows, threads, [&](ptrdiff_t row) {
    for (ptrdiff_t step = 0; step < batch.length(row); ++step) sums[size_t(row)] += term(row, step);
  });
  if (gradient.data) cpu_backend<T>().zero_padding(batch, features, gradient);
  Loss loss = {0, count};
  for (double sum : sums) loss.sum += sum;
  return loss;
}

template <class T>
T* gradient_at(Sequence<T> gradient, ptrdiff_t row, ptrdiff_t step) {
  return gradient.data ? gradient.at(row, step) : nullptr;
}

}  // namespace recurra
