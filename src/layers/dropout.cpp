#include "layers/dropout.h"

#include <cstring>

namespace recurra {

template <class T>
void Dropout<T>::forward(const Run& run, const LayerForward<T>& call) {
  if (run.training && p_ > 0) {
    run.device<T>().dropout(run, call.batch, call.features, p_, 0, false, call.x.features, call.y);
    return;
  }
  for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
    for (ptrdiff_t s = 0; s < call.batch.length(r); ++s)
      std::memcpy(call.y.at(r, s), call.x.features.at(r, s), size_t(call.features) * sizeof(T));
}

template <class T>
std::unique_ptr<LayerTape<T>> Dropout<T>::record(const Run& run, const LayerForward<T>& call, Arena&) {
  forward(run, call);
  return std::make_unique<LayerTape<T>>();
}

// The derivative is the same mask: dx from dy as y from x.
template <class T>
void Dropout<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Arena&) {
  if (call.dx.data && call.dy.data) forward(run, {call.batch, call.features, {call.dy, {}}, call.dx, {}, {}});
}

template class Dropout<float>;
template class Dropout<double>;

}  // namespace recurra
