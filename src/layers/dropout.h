#pragma once
#include "layers/layer.h"

namespace recurra {

// In training, zeroes each value with probability p and scales the rest by 1 / (1 - p).
template <class T>
class Dropout final : public Layer<T> {
 public:
  Dropout(const Devices& devices, double p) : Layer<T>(devices), p_(p) {
    check(p >= 0 && p < 1, "Dropout", "p is ", p, ", expected 0 <= p < 1");
  }

  const char* kind() const override { return "dropout"; }
  ptrdiff_t input_size() const override { return 0; }
  ptrdiff_t output_size() const override { return 0; }
  double work() const override { return 1; }

  void forward(const Run& run, const LayerForward<T>& call) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int) override {}

 private:
  double p_;
};

}  // namespace recurra
