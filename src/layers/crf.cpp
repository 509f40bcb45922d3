#include "layers/crf.h"

#include <algorithm>

namespace recurra {
namespace {

template <class T>
void copy(const Batch& batch, ptrdiff_t features, Sequence<const T> from, Sequence<T> to) {
  for (ptrdiff_t r = 0; r < batch.rows; ++r)
    for (ptrdiff_t s = 0; s < batch.length(r); ++s) std::copy_n(from.at(r, s), features, to.at(r, s));
}

}  // namespace

template <class T>
Crf<T>::Crf(ptrdiff_t tags)
    : Layer<T>({{"transitions", {tags, tags}}, {"start_transitions", {tags}}, {"end_transitions", {tags}}}),
      tags_(tags) {
  check(tags >= 1, "CRF", "num_tags is ", tags, ", expected at least 1");
}

template <class T>
void Crf<T>::forward(const Run&, const LayerForward<T>& call) {
  copy(call.batch, tags_, call.x.features, call.y);
}

template <class T>
std::unique_ptr<LayerTape<T>> Crf<T>::record(const Run& run, const LayerForward<T>& call, Arena&) {
  forward(run, call);
  return std::make_unique<LayerTape<T>>();
}

template <class T>
void Crf<T>::backward(const Run&, const LayerBackward<T>& call, LayerTape<T>&, Arena&) {
  if (call.dx.data && call.dy.data) copy(call.batch, tags_, call.dy, call.dx);
}

template class Crf<float>;
template class Crf<double>;

}  // namespace recurra
