#pragma once
#include "layers/layer.h"

namespace recurra {

// Reverses the valid steps of each row. Episode boundaries (reset) stay between the same steps.
template <class T>
class Reverse final : public Layer<T> {
 public:
  explicit Reverse(const Devices& devices) : Layer<T>(devices) {}

  const char* kind() const override { return "reverse"; }
  ptrdiff_t input_size() const override { return 0; }
  ptrdiff_t output_size() const override { return 0; }
  bool needs_sequences() const override { return true; }
  Batch output_batch(const Batch&, Arena&) const override;
  bool streamable() const override { return false; }
  double work() const override { return 1; }

  void forward(const Run&, const LayerForward<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int) override {}
};

}  // namespace recurra
