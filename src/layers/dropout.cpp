#include "layers/dropout.h"

namespace recurra {

template <class T>
void Dropout<T>::forward(const Run& run, const LayerForward<T>& call) {
  if (run.training && p_ > 0) {
    run.device<T>().dropout(run, call.batch, call.features, p_, 0, false, call.x.features, call.y);
    return;
  }
  run.device<T>().copy({&call.batch, call.features, call.x.features, call.y});
}

// The gradient uses the same mask: dx is to dy as y is to x.
template <class T>
void Dropout<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Memory&) {
  if (call.dx.data && call.dy.data) forward(run, {call.batch, call.features, {call.dy, {}}, call.dx, {}, {}});
}

template class Dropout<float>;
template class Dropout<double>;

}  // namespace recurra
