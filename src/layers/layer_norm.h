#pragma once
#include "layers/layer.h"

namespace recurra {

// Normalises each step over its features.
template <class T>
class LayerNorm final : public Layer<T> {
 public:
  LayerNorm(const Devices&, ptrdiff_t features, double eps, bool affine);

  const char* kind() const override { return "layer_norm"; }
  ptrdiff_t input_size() const override { return features_; }
  ptrdiff_t output_size() const override { return features_; }
  double work() const override { return 8 * double(features_); }

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void record(const Run&, const LayerForward<T>&, LayerTape<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

 private:
  struct Tape;
  void normalise(const Run&, const LayerForward<T>&, Sequence<T> statistics);

  ptrdiff_t features_;
  T eps_;
};

}  // namespace recurra
