#include "layers/slice.h"

namespace recurra {

template <class T>
Slice<T>::Slice(const Devices& devices, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t step)
    : Layer<T>(devices), begin_(begin), end_(end), step_(step), count_(0) {
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
  const Sequence<const T> x = call.x.features;
  run.device<T>().copy(
      {&call.batch, count_, {x.data + begin_, x.row_stride, x.step_stride}, call.y, step_, 1, false, run.stop});
}

template <class T>
void Slice<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Memory&) {
  if (!call.dy.data || !call.dx.data) return;
  const Sequence<T> dx = call.dx;
  T* const zeros = run.arena.template take<T>(size_t(call.features));
  fill_flat(run.device<T>(), zeros, call.features, T(0));
  run.device<T>().copy({&call.batch, call.features, {zeros, 0, 0}, dx, 1, 1, false, run.stop});
  run.device<T>().copy(
      {&call.batch, count_, call.dy, {dx.data + begin_, dx.row_stride, dx.step_stride}, 1, step_, false, run.stop});
}

template class Slice<float>;
template class Slice<double>;

}  // namespace recurra
