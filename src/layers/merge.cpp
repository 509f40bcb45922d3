#include "layers/merge.h"

#include <numeric>

namespace recurra {
namespace {

// In the order of MergeKind.
constexpr const char* kMergeNames[] = {"add",     "multiply", "subtract", "average",
                                       "maximum", "minimum",  "dot",      "concatenate"};

// The call's inputs as parts, without their gradients.
template <class T, class Call>
MergePart<T>* parts_of(const Run& run, const Call& call) {
  auto* parts = run.host.template take<MergePart<T>>(size_t(call.other_count) + 1);
  parts[0] = {call.x.features, {}, call.features};
  for (ptrdiff_t k = 0; k < call.other_count; ++k) parts[k + 1] = {call.others[k].x, {}, call.others[k].features};
  return parts;
}

}  // namespace

template <class T>
const char* Merge<T>::kind() const {
  return kMergeNames[int(kind_)];
}

template <class T>
ptrdiff_t Merge<T>::output_features(const ptrdiff_t* features, ptrdiff_t inputs) const {
  if (kind_ == MergeKind::kConcatenate) return std::accumulate(features, features + inputs, ptrdiff_t(0));
  for (ptrdiff_t k = 1; k < inputs; ++k)
    check(features[k] == features[0], kind(), "input ", k, " has ", features[k], " features, expected ", features[0],
          ", as input 0 has");
  return kind_ == MergeKind::kDot ? 1 : features[0];
}

template <class T>
void Merge<T>::forward(const Run& run, const LayerForward<T>& call) {
  run.device<T>().merge(run, {kind_, &call.batch, parts_of<T>(run, call), call.other_count + 1}, call.y);
}

template <class T>
void Merge<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Memory&) {
  if (!call.dy.data) return;
  MergePart<T>* const parts = parts_of<T>(run, call);
  parts[0].dx = call.dx;
  for (ptrdiff_t k = 0; call.others_dx && k < call.other_count; ++k) parts[k + 1].dx = call.others_dx[k];
  run.device<T>().merge_gradient(run, {kind_, &call.batch, parts, call.other_count + 1}, call.dy);
}

template class Merge<float>;
template class Merge<double>;

}  // namespace recurra
