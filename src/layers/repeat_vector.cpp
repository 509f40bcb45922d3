#include "layers/repeat_vector.h"

namespace recurra {

template <class T>
RepeatVector<T>::RepeatVector(const Devices& devices, ptrdiff_t times) : Layer<T>(devices), times_(times) {
  constexpr ptrdiff_t kMost = (ptrdiff_t(1) << 31) - 1;
  check(times >= 1 && times <= kMost, "RepeatVector", "n is ", times, ", expected 1 to ", kMost);
}

template <class T>
void RepeatVector<T>::forward(const Run& run, const LayerForward<T>& call) {
  const Batch repeated = {call.batch.rows, times_, nullptr, nullptr, 0, 0};
  const Sequence<const T> x = {call.x.features.data, call.x.features.row_stride, 0};
  Copy<T> copy = {&repeated, call.features, x, call.y};
  copy.stop = run.stop;
  run.device<T>().copy(copy);
}

template <class T>
void RepeatVector<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Memory&) {
  if (!call.dy.data || !call.dx.data) return;
  const Batch repeated = {call.batch.rows, times_, nullptr, nullptr, 0, 0};
  run.device<T>().sum_each_row(run, repeated, call.features, call.dy, call.dx);
}

template class RepeatVector<float>;
template class RepeatVector<double>;

}  // namespace recurra
