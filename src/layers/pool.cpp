#include "layers/pool.h"

namespace recurra {
namespace {

PoolKind pool_kind_of(const std::string& mode) {
  if (mode == "last") return PoolKind::kLast;
  if (mode == "mean") return PoolKind::kMean;
  if (mode == "max") return PoolKind::kMax;
  fail("Pool", "got mode '" + mode + "', expected one of: last, mean, max");
}

}  // namespace

// The output, whose memory belongs to the program's tape.
template <class T>
struct Pool<T>::Tape : LayerTape<T> {
  Sequence<const T> y;
};

template <class T>
Pool<T>::Pool(const Devices& devices, const std::string& mode) : Layer<T>(devices), kind_(pool_kind_of(mode)) {}

template <class T>
void Pool<T>::forward(const Run& run, const LayerForward<T>& call) {
  run.device<T>().pool(run, call.batch, call.features, kind_, call.x.features, call.y);
}

template <class T>
std::unique_ptr<LayerTape<T>> Pool<T>::take_tape(const LayerForward<T>& call, bool, Memory&) const {
  auto tape = std::make_unique<Tape>();
  tape->y = read_only(call.y);
  return tape;
}

template <class T>
void Pool<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Memory&) {
  if (!call.dx.data || !call.dy.data) return;
  run.device<T>().pool_gradient(run, call.batch, call.features, kind_, call.x.features, static_cast<Tape&>(tape).y,
                                call.dy, call.dx);
}

template class Pool<float>;
template class Pool<double>;

}  // namespace recurra
