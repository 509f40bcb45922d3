// What losses that are sums over steps share.
#pragma once
#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/device.h"
#include "cpu/isa.h"
#include "platform/tasks.h"

namespace recurra {

// Fewer elements than this are done by the caller alone.
constexpr double kParallelElements = 1 << 15;
inline int threads_for(double elements) { return threads_for(elements, kParallelElements); }
// As many take a millisecond or less: how often a long row looks at the clock.
constexpr ptrdiff_t kPollElements = 1 << 15;

// f(task, memory of its thread: so many elements of M), on at most `threads` threads.
template <class M, class F>
void share_with_memory(ptrdiff_t tasks, int threads, size_t elements, const F& f) {
  threads = int(std::clamp<ptrdiff_t>(tasks, 1, threads));
  Arena arena;
  std::vector<M*> memory(static_cast<size_t>(threads));
  for (M*& own : memory) own = arena.take<M>(elements);
  share_tasks(tasks, threads, [&](int member, ptrdiff_t task) { f(task, memory[size_t(member)]); });
}

template <class T>
T* gradient_at(Sequence<T> gradient, ptrdiff_t row, ptrdiff_t step) {
  return gradient.data ? gradient.at(row, step) : nullptr;
}

template <class T>
void scale_gradient(T* gradient, ptrdiff_t features, double weight) {
  for (ptrdiff_t k = 0; k < features; ++k) gradient[k] *= T(weight);
}

// `term(row, step)` gives a step's loss and writes its gradient; `features` are the predictions of a step.
template <class T, class F>
double sum_steps(const LossBatch& batch, ptrdiff_t features, Sequence<T> gradient, const F& term) {
  const auto weighted = [&](ptrdiff_t row, ptrdiff_t step) -> double {
    const double weight = batch.weight(row, step);
    T* d = gradient_at(gradient, row, step);
    if (weight == 0) {
      if (d) std::fill_n(d, features, T(0));
      return 0;
    }
    const double loss = term(row, step);
    if (d) scale_gradient(d, features, weight);
    return weight * loss;
  };
  std::vector<double> sums(size_t(batch.rows));
  const ptrdiff_t poll_steps = 1 + kPollElements / std::max<ptrdiff_t>(features, 1);
  const auto sum_row = [&](ptrdiff_t row, const auto& one) {
    for (ptrdiff_t step = 0; step < batch.length(row); ++step) {
      if (batch.stop && step % poll_steps == 0 && batch.stop->poll()) return;
      sums[size_t(row)] += one(row, step);
    }
  };
  const int threads = threads_for(double(batch.tokens()) * double(features));
  for_each_task(batch.rows, threads, [&](ptrdiff_t row) {
    if (batch.weights.data)
      sum_row(row, weighted);
    else
      sum_row(row, term);
  });
  if (gradient.data) cpu_device<T>().zero_padding(batch, features, gradient);
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace recurra
