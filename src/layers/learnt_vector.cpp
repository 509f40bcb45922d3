#include "layers/learnt_vector.h"

#include <algorithm>

#include "cpu/ops/steps.h"

namespace recurra {
namespace {

std::vector<ParameterSpec> parameter_specs(ptrdiff_t features) {
  constexpr ptrdiff_t kMost = ptrdiff_t(1) << 24;
  check(features >= 1 && features <= kMost, "LearntVector", "features is ", features, ", expected 1 to ", kMost);
  return {{"value", {features}}};
}

}  // namespace

template <class T>
LearntVector<T>::LearntVector(ptrdiff_t features) : Layer<T>(parameter_specs(features)) {}

template <class T>
void LearntVector<T>::forward(const Run&, const LayerForward<T>& call) {
  Parameters<T>& parameters = *this->parameters();
  const ReadLock lock(parameters.mutex());
  for (ptrdiff_t r = 0; r < call.batch.rows; ++r) std::copy_n(parameters.values(), output_size(), call.y.at(r, 0));
}

template <class T>
std::unique_ptr<LayerTape<T>> LearntVector<T>::record(const Run& run, const LayerForward<T>& call, Arena&) {
  forward(run, call);
  return std::make_unique<FlatTape<T>>();
}

template <class T>
void LearntVector<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Arena& memory) {
  T* gradient = start_gradient(static_cast<FlatTape<T>&>(tape), *this->parameters(), memory);
  const ptrdiff_t features = output_size();
  for (ptrdiff_t r = 0; call.dx.data && r < call.batch.rows; ++r)  // the input is not looked at
    for (ptrdiff_t s = 0; s < call.batch.length(r); ++s) std::fill_n(call.dx.at(r, s), call.features, T(0));
  if (!call.dy.data) return;
  const Batch vectors = {call.batch.rows, 1, nullptr, nullptr, 0, 0};
  sum_over_steps(run, vectors, features, gradient, [&](ptrdiff_t row, ptrdiff_t, T* sums) {
    kernels<T>().rows.add_scaled(T(1), call.dy.at(row, 0), sums, features);
  });
}

template <class T>
void LearntVector<T>::commit(LayerTape<T>& tape, int) {
  add_flat_gradient(static_cast<FlatTape<T>&>(tape), *this->parameters());
}

template class LearntVector<float>;
template class LearntVector<double>;

}  // namespace recurra
