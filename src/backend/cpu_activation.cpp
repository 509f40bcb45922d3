#include "backend/cpu_layers.h"
#include "backend/cpu_steps.h"

namespace recurra::cpu {
namespace {

// Calls f(row, step, n) for stretches of n values: a step's features, or whole rows where the function looks at each
// value alone and all arrays are contiguous.
template <class F>
void for_each_stretch(const Run& run, const Batch& batch, ptrdiff_t features, bool contiguous, const F& f) {
  if (!contiguous) {
    for_each_step(run, batch, [&](ptrdiff_t row, ptrdiff_t step) { f(row, step, features); });
    return;
  }
  constexpr ptrdiff_t kSteps = 256;  // between two looks at the clock
  for_each_task(batch.rows, run.threads, [&](ptrdiff_t row) {
    const ptrdiff_t length = batch.length(row);
    for (ptrdiff_t step = 0; step < length && !stopped(run); step += kSteps)
      f(row, step, std::min(kSteps, length - step) * features);
  });
}

}  // namespace

template <class T>
void activation(const Run& run, const Batch& batch, ptrdiff_t features, ActivationKind kind, Sequence<const T> x,
                Sequence<T> y) {
  const auto f = kernels<T>().rows.activation[kind];
  const bool contiguous = kind != kSoftmax && x.step_stride == features && y.step_stride == features;
  for_each_stretch(run, batch, features, contiguous,
                   [&](ptrdiff_t row, ptrdiff_t step, ptrdiff_t n) { f(x.at(row, step), y.at(row, step), n); });
}

template <class T>
void activation_gradient(const Run& run, const Batch& batch, ptrdiff_t features, ActivationKind kind,
                         Sequence<const T> x, Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) {
  const auto f = kernels<T>().rows.activation_gradient[kind];
  const bool contiguous = kind != kSoftmax && x.step_stride == features && y.step_stride == features &&
                          dy.step_stride == features && dx.step_stride == features;
  for_each_stretch(run, batch, features, contiguous, [&](ptrdiff_t row, ptrdiff_t step, ptrdiff_t n) {
    f(x.at(row, step), y.at(row, step), dy.at(row, step), dx.at(row, step), n);
  });
}

#define RECURRA_INSTANCES(T)                                                                                     \
  template void activation(const Run&, const Batch&, ptrdiff_t, ActivationKind, Sequence<const T>, Sequence<T>); \
  template void activation_gradient(const Run&, const Batch&, ptrdiff_t, ActivationKind, Sequence<const T>,      \
                                    Sequence<const T>, Sequence<const T>, Sequence<T>);
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra::cpu
