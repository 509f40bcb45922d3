#pragma once
#include "layers/affine.h"

namespace recurra {

// Normalises each row's groups of channels over its valid steps and, of images, their places.
template <class T>
class GroupNorm final : public Layer<T> {
 public:
  // `instance`: it is called InstanceNorm1d in messages.
  GroupNorm(const Devices&, ptrdiff_t groups, ptrdiff_t channels, double eps, bool affine, bool instance = false);

  const char* kind() const override { return "group_norm"; }
  ptrdiff_t input_size() const override { return 0; }
  ptrdiff_t output_size() const override { return 0; }
  ptrdiff_t output_features(const ptrdiff_t* features, ptrdiff_t inputs) const override;
  Batch output_batch(const Batch&, Arena&) const override;
  bool streamable() const override { return false; }
  double work() const override { return 2048; }  // some channels, a few operations each

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void record(const Run&, const LayerForward<T>&, LayerTape<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

 private:
  struct Tape;
  StateRows<T> take_statistics(const Batch&, Arena&) const;
  Affine<T> spread_affine(Arena&, ptrdiff_t features);
  void normalise(const Run&, const LayerForward<T>&, StateRows<T> statistics);

  const char* name_;
  ptrdiff_t groups_, channels_;
  T eps_;
};

}  // namespace recurra
