#include "layers/crf.h"

namespace recurra {
template <class T>
Crf<T>::Crf(const Devices& devices, ptrdiff_t tags)
    : Layer<T>(devices, {{"transitions", {tags, tags}}, {"start_transitions", {tags}}, {"end_transitions", {tags}}}),
      tags_(tags) {
  check(tags >= 1, "CRF", "num_tags is ", tags, ", expected at least 1");
}

template <class T>
void Crf<T>::forward(const Run& run, const LayerForward<T>& call) {
  run.device<T>().copy({&call.batch, tags_, call.x.features, call.y});
}

template <class T>
void Crf<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Memory&) {
  if (call.dx.data && call.dy.data) run.device<T>().copy({&call.batch, tags_, call.dy, call.dx});
}

template class Crf<float>;
template class Crf<double>;

}  // namespace recurra
