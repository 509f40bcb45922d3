#include "layers/slice.h"

#include <algorithm>

#include "layers/valid_steps.h"

namespace recurra {

template <class T>
Slice<T>::Slice(ptrdiff_t begin, ptrdiff_t end, ptrdiff_t step)
    : Layer<T>(std::vector<ParameterSpec>{}), begin_(begin), end_(end), step_(step), count_(0) {
  constexpr ptrdiff_t kMost = ptrdiff_t(1) << 31;
  check(0 <= begin && begin < end && end <= kMost && step >= 1, "Slice", "got features ", begin, " to ", end, " by ",
        step, ", expected 0 <= start < stop and a step of 1 or more");
  count_ = (end - begin - 1) / step + 1;
}

template <class T>
ptrdiff_t Slice<T>::output_features(const ptrdiff_t* features, ptrdiff_t) const {
  check(!features[0] || end_ <= features[0], "Slice", "got ", features[0], " features, expected at least ", end_,
        ", where the slice ends");
  return count_;
}

template <class T>
void Slice<T>::forward(const Run& run, const LayerForward<T>& call) {
  for_each_valid(
      call.batch, count_,
      [&](ptrdiff_t r, ptrdiff_t s) {
        const T* from = call.x.features.at(r, s) + begin_;
        T* to = call.y.at(r, s);
        for (ptrdiff_t i = 0; i < count_; ++i) to[i] = from[i * step_];
      },
      run.stop);
}

template <class T>
std::unique_ptr<LayerTape<T>> Slice<T>::record(const Run& run, const LayerForward<T>& call, Arena&) {
  forward(run, call);
  return std::make_unique<LayerTape<T>>();
}

template <class T>
void Slice<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Arena&) {
  if (!call.dy.data || !call.dx.data) return;
  for_each_valid(
      call.batch, call.features,
      [&](ptrdiff_t r, ptrdiff_t s) {
        const T* from = call.dy.at(r, s);
        T* to = call.dx.at(r, s);
        std::fill_n(to, call.features, T(0));
        for (ptrdiff_t i = 0; i < count_; ++i) to[begin_ + i * step_] = from[i];
      },
      run.stop);
}

template class Slice<float>;
template class Slice<double>;

}  // namespace recurra
