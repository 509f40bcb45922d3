#include "layers/dense.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kMostDenseFeatures = 1 << 24;

std::vector<ParameterSpec> dense_parameters(ptrdiff_t in, ptrdiff_t out, bool bias) {
  check(in >= 1 && in <= kMostDenseFeatures, "Dense", "in_features is ", in, ", expected 1 to ", kMostDenseFeatures);
  check(out >= 1 && out <= kMostDenseFeatures, "Dense", "out_features is ", out, ", expected 1 to ",
        kMostDenseFeatures);
  std::vector<ParameterSpec> specs = {{"weight", {out, in}}};
  if (bias) specs.push_back({"bias", {out}});
  return specs;
}

}  // namespace

template <class T>
Dense<T>::Dense(const Devices& devices, ptrdiff_t in_features, ptrdiff_t out_features, bool bias)
    : Layer<T>(devices, dense_parameters(in_features, out_features, bias)),
      in_(in_features),
      out_(out_features),
      bias_(bias) {}

template <class T>
auto Dense<T>::weights(bool transposed) -> Weights {
  return this->cached(transposed ? transposed_ : forward_, [&](Arena memory) {
    const T* weight = this->parameters()->values();
    return transposed ? pack_matrix(this->device(), weight, out_, in_, false, static_cast<const T*>(nullptr),
                                    std::move(memory))
                      : pack_matrix(this->device(), weight, in_, out_, true, bias(), std::move(memory));
  });
}

template <class T>
void Dense<T>::product(const Run& run, const LayerForward<T>& call, const OwnedMatrix<T>& packed) const {
  run.device<T>().product(run, call.batch, in_, out_, packed.matrix, packed.bias, call.x.features, call.y);
}

template <class T>
void Dense<T>::forward(const Run& run, const LayerForward<T>& call) {
  const Weights packed = weights(false);
  product(run, call, *packed.value);
}

template <class T>
std::unique_ptr<LayerStep<T>> Dense<T>::prepare_step(ptrdiff_t, ptrdiff_t features) {
  return std::make_unique<PackedStep<T, Dense>>(*this, features);
}

template <class T>
void Dense<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Memory& memory) {
  T* gradient = start_gradient(static_cast<FlatTape<T>&>(tape), *this->parameters(), memory);
  if (!call.dy.data) return;
  run.device<T>().outer(run, call.batch, in_, out_, call.x.features, call.dy, gradient,
                        bias_ ? gradient + in_ * out_ : nullptr);
  if (!call.dx.data) return;
  const Weights packed = weights(true);
  run.device<T>().product(run, call.batch, out_, in_, packed.value->matrix, nullptr, call.dy, call.dx);
}

template <class T>
void Dense<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int) {
  to.add(static_cast<FlatTape<T>&>(tape).gradient);
}

template class Dense<float>;
template class Dense<double>;

}  // namespace recurra
