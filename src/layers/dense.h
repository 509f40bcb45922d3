#pragma once
#include "layers/layer.h"
#include "layers/packed.h"

namespace recurra {

// y = x W^T + b at every step.
template <class T>
class Dense final : public Layer<T> {
 public:
  Dense(const Devices&, ptrdiff_t in_features, ptrdiff_t out_features, bool bias);

  const char* kind() const override { return "dense"; }
  ptrdiff_t input_size() const override { return in_; }
  ptrdiff_t output_size() const override { return out_; }
  double work() const override { return double(in_) * double(out_); }

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerStep<T>> prepare_step(ptrdiff_t rows, ptrdiff_t features) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

 private:
  const T* bias() const { return bias_ ? this->parameters()->values() + in_ * out_ : nullptr; }

  friend class PackedStep<T, Dense>;
  typedef typename Layer<T>::template Cached<OwnedMatrix<T>> Weights;
  Weights weights(bool transposed);
  void product(const Run&, const LayerForward<T>&, const OwnedMatrix<T>&) const;

  ptrdiff_t in_, out_;
  bool bias_;
  Weights forward_, transposed_;
};

}  // namespace recurra
