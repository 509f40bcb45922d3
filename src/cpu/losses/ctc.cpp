// Connectionist temporal classification: rows side by side.
#include <limits>

#include "cpu/losses/steps.h"
#include "kernels/rows/ctc_row_call.h"

namespace recurra {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Each label takes a step, and a blank must part two that are equal.
ptrdiff_t steps_needed(const int64_t* labels, ptrdiff_t n) {
  ptrdiff_t needed = n;
  for (ptrdiff_t i = 1; i < n; ++i) needed += labels[i] == labels[i - 1];
  return needed;
}

}  // namespace

template <class T>
double CpuDevice<T>::ctc(const CtcLoss<T>& call) const {
  const LossBatch& batch = *call.batch;
  const ptrdiff_t symbols = call.symbols;
  const Targets& targets = call.targets;
  const Sequence<T>& gradient = call.gradient;
  bool* const feasible = call.feasible;
  std::vector<ptrdiff_t> labels(size_t(batch.rows));
  ptrdiff_t scratch = 0;
  double work = 0;
  for (ptrdiff_t row = 0; row < batch.rows; ++row) {
    const ptrdiff_t n = targets.labels(row);
    feasible[row] = steps_needed(targets.row(row), n) <= batch.length(row);
    labels[size_t(row)] = n;
    if (!feasible[row] || batch.weight(row, 0) == 0) continue;
    scratch = std::max(scratch, kernels<T>().ctc.scratch(batch.length(row), n, gradient.data));
    work += double(batch.length(row)) * double(symbols + 4 * n);
  }
  std::vector<double> losses(size_t(batch.rows));
  share_with_memory<T>(batch.rows, threads_for(work), size_t(scratch), [&](ptrdiff_t row, T* memory) {
    if (batch.stop && batch.stop->poll()) return;
    const ptrdiff_t steps = batch.length(row), n = labels[size_t(row)];
    const double weight = batch.weight(row, 0);
    bool counts = feasible[row] && weight != 0;
    if (counts) {
      const CtcRowCall<T> one = {{steps, symbols, call.blank, call.logits.at(row, 0), call.logits.step_stride,
                                  targets.row(row), n, gradient_at(gradient, row, 0), gradient.step_stride, memory},
                                 batch.stop};
      const double loss = kernels<T>().ctc.row(one);
      counts = feasible[row] = loss != kInfinity;
      if (counts) losses[size_t(row)] = weight * loss;
    }
    for (ptrdiff_t step = 0; gradient.data && step < steps; ++step) {
      if (!counts)
        std::fill_n(gradient.at(row, step), symbols, T(0));
      else if (batch.weights.data)
        scale_gradient(gradient.at(row, step), symbols, weight);
    }
  });
  if (gradient.data) zero_padding(batch, symbols, gradient);
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

template double CpuDevice<float>::ctc(const CtcLoss<float>&) const;
template double CpuDevice<double>::ctc(const CtcLoss<double>&) const;

}  // namespace recurra
