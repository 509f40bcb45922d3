#include "layers/learnt_vector.h"

namespace recurra {
namespace {

std::vector<ParameterSpec> parameter_specs(ptrdiff_t features) {
  constexpr ptrdiff_t kMost = ptrdiff_t(1) << 24;
  check(features >= 1 && features <= kMost, "LearntVector", "features is ", features, ", expected 1 to ", kMost);
  return {{"value", {features}}};
}

}  // namespace

template <class T>
LearntVector<T>::LearntVector(const Devices& devices, ptrdiff_t features)
    : Layer<T>(devices, parameter_specs(features)) {}

template <class T>
void LearntVector<T>::forward(const Run& run, const LayerForward<T>& call) {
  Parameters<T>& parameters = *this->parameters();
  const ReadLock lock(parameters.mutex());
  copy_rows<T>(run.device<T>(), call.batch.rows, output_size(), {parameters.values(), 0},
               {call.y.data, call.y.row_stride});
}

template <class T>
void LearntVector<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Memory& memory) {
  T* gradient = start_gradient(static_cast<FlatTape<T>&>(tape), *this->parameters(), memory);
  const ptrdiff_t features = output_size();
  if (call.dx.data) run.device<T>().fill(call.batch, call.features, T(0), call.dx);  // the input's values are not read
  if (!call.dy.data) return;
  const Batch vectors = {call.batch.rows, 1, nullptr, nullptr, 0, 0};
  run.device<T>().sum_valid(run, vectors, features, call.dy, gradient);
}

template <class T>
void LearntVector<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int) {
  to.add(static_cast<FlatTape<T>&>(tape).gradient);
}

template class LearntVector<float>;
template class LearntVector<double>;

}  // namespace recurra
