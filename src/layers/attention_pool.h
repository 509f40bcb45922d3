#pragma once
#include "layers/layer.h"
#include "layers/packed.h"

namespace recurra {

// The mean of a sequence's steps, weighted by the softmax of v . tanh(W h + b).
template <class T>
class AttentionPool final : public Layer<T> {
 public:
  AttentionPool(const Devices&, ptrdiff_t features, ptrdiff_t hidden);

  const char* kind() const override { return "attention_pool"; }
  ptrdiff_t input_size() const override { return features_; }
  ptrdiff_t output_size() const override { return features_; }
  bool needs_sequences() const override { return true; }
  bool returns_sequences() const override { return false; }
  bool streamable() const override { return false; }
  double work() const override { return double(hidden_) * double(features_ + 20) + 2 * double(features_); }

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void record(const Run&, const LayerForward<T>&, LayerTape<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

  // forward() that also writes the weights (row, step), 0 past the lengths.
  void attend(const Run&, const LayerForward<T>&, Sequence<T> weights);

 private:
  struct Tape;
  struct Packed;
  typedef typename Layer<T>::template Cached<Packed> Weights;
  Weights weights();
  void attend(const Run&, const LayerForward<T>&, const Attend<T>&, Sequence<T> u, const Packed&) const;

  ptrdiff_t features_, hidden_;
  Weights weights_;
};

}  // namespace recurra
