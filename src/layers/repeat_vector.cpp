#include "layers/repeat_vector.h"

#include <algorithm>

#include "layers/valid_steps.h"

namespace recurra {

template <class T>
RepeatVector<T>::RepeatVector(ptrdiff_t times) : Layer<T>(std::vector<ParameterSpec>{}), times_(times) {
  constexpr ptrdiff_t kMost = (ptrdiff_t(1) << 31) - 1;
  check(times >= 1 && times <= kMost, "RepeatVector", "n is ", times, ", expected 1 to ", kMost);
}

template <class T>
void RepeatVector<T>::forward(const Run& run, const LayerForward<T>& call) {
  for_each_task(call.batch.rows, threads_to_move(call.batch.rows * times_ * call.features), [&](ptrdiff_t r) {
    for (ptrdiff_t s = 0; s < times_; ++s) {
      if (run.stop && s % poll_steps(call.features) == 0 && run.stop->poll()) return;
      std::copy_n(call.x.features.at(r, 0), call.features, call.y.at(r, s));
    }
  });
}

template <class T>
std::unique_ptr<LayerTape<T>> RepeatVector<T>::record(const Run& run, const LayerForward<T>& call, Arena&) {
  forward(run, call);
  return std::make_unique<LayerTape<T>>();
}

// The sum over the steps, in short runs, so that many lose no digits.
template <class T>
void RepeatVector<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Arena&) {
  if (!call.dy.data || !call.dx.data) return;
  constexpr ptrdiff_t kShortRun = 64;
  const ptrdiff_t features = call.features;
  T* const sums = run.arena.template take<T>(size_t(call.batch.rows * features));
  for_each_task(call.batch.rows, threads_to_move(call.batch.rows * times_ * features), [&](ptrdiff_t r) {
    T *const total = call.dx.at(r, 0), *const sum = sums + r * features;
    std::fill_n(total, features, T(0));
    for (ptrdiff_t begin = 0; begin < times_; begin += kShortRun) {
      if (run.stop && run.stop->poll()) return;
      std::fill_n(sum, features, T(0));
      for (ptrdiff_t s = begin; s < std::min(times_, begin + kShortRun); ++s)
        for (ptrdiff_t i = 0; i < features; ++i) sum[i] += call.dy.at(r, s)[i];
      for (ptrdiff_t i = 0; i < features; ++i) total[i] += sum[i];
    }
  });
}

template class RepeatVector<float>;
template class RepeatVector<double>;

}  // namespace recurra
