#pragma once
#include "layers/layer.h"

namespace recurra {

// Repeats a vector for `times` steps.
template <class T>
class RepeatVector final : public Layer<T> {
 public:
  RepeatVector(const Devices&, ptrdiff_t times);

  const char* kind() const override { return "repeat_vector"; }
  ptrdiff_t input_size() const override { return 0; }
  ptrdiff_t output_size() const override { return 0; }
  bool makes_sequences() const override { return true; }
  Batch output_batch(const Batch& batch, Arena&) const override { return {batch.rows, times_, nullptr, nullptr, 0, 0}; }
  bool streamable() const override { return false; }
  double work() const override { return double(times_); }

  void forward(const Run&, const LayerForward<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int) override {}

 private:
  ptrdiff_t times_;
};

}  // namespace recurra
