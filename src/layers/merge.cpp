#include "layers/merge.h"

#include <numeric>

namespace recurra {
namespace {

// In the order of MergeKind.
constexpr const char* kNames[] = {"add", "multiply", "subtract", "average", "maximum", "minimum", "dot", "concatenate"};

// The call's inputs; dx: where their gradients go, null: nowhere.
template <class T, class Call>
const MergePart<T>* parts_of(const Run& run, const Call& call, const Sequence<T>* dx) {
  auto* parts = run.host.template take<MergePart<T>>(size_t(call.other_count) + 1);
  parts[0] = {call.x.features, dx ? dx[0] : Sequence<T>{}, call.features};
  for (ptrdiff_t k = 0; k < call.other_count; ++k)
    parts[k + 1] = {call.others[k].x, dx ? dx[k + 1] : Sequence<T>{}, call.others[k].features};
  return parts;
}

}  // namespace

template <class T>
const char* Merge<T>::kind() const {
  return kNames[int(kind_)];
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
  run.device<T>().merge(run, {kind_, &call.batch, parts_of<T>(run, call, nullptr), call.other_count + 1}, call.y);
}

template <class T>
std::unique_ptr<LayerTape<T>> Merge<T>::record(const Run& run, const LayerForward<T>& call, Memory&) {
  forward(run, call);
  return std::make_unique<LayerTape<T>>();
}

template <class T>
void Merge<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Memory&) {
  if (!call.dy.data) return;
  auto* dx = run.host.template take<Sequence<T>>(size_t(call.other_count) + 1);
  dx[0] = call.dx;
  for (ptrdiff_t k = 0; k < call.other_count; ++k) dx[k + 1] = call.others_dx ? call.others_dx[k] : Sequence<T>{};
  run.device<T>().merge_gradient(run, {kind_, &call.batch, parts_of(run, call, dx), call.other_count + 1}, call.dy);
}

template class Merge<float>;
template class Merge<double>;

}  // namespace recurra
