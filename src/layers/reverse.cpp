#include "layers/reverse.h"

#include <algorithm>

namespace recurra {
namespace {

template <class T>
void turn(const Run& run, const Batch& batch, ptrdiff_t features, Sequence<const T> x, Sequence<T> y) {
  run.device<T>().copy({&batch, features, x, y, 1, 1, true, run.stop});
}

}  // namespace

// A reset at step t separates t - 1 and t, which become steps n - t and n - 1 - t: the new reset is at n - t.
template <class T>
Batch Reverse<T>::output_batch(const Batch& batch, Arena& memory) const {
  if (!batch.reset) return batch;
  Batch turned = batch;
  uint8_t* reset = memory.take<uint8_t>(size_t(batch.rows * batch.steps));
  for (ptrdiff_t r = 0; r < batch.rows; ++r) {
    uint8_t* row = reset + r * batch.steps;
    std::fill_n(row, batch.steps, uint8_t(0));
    for (ptrdiff_t t = 1; t < batch.length(r); ++t)
      row[batch.length(r) - t] = batch.reset[r * batch.reset_row + t * batch.reset_step];
  }
  turned.reset = reset;
  turned.reset_row = batch.steps;
  turned.reset_step = 1;
  return turned;
}

template <class T>
void Reverse<T>::forward(const Run& run, const LayerForward<T>& call) {
  turn(run, call.batch, call.features, call.x.features, call.y);
}

template <class T>
void Reverse<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Memory&) {
  if (call.dy.data && call.dx.data) turn(run, call.batch, call.features, call.dy, call.dx);
}

template class Reverse<float>;
template class Reverse<double>;

}  // namespace recurra
