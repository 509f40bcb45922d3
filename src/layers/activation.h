#pragma once
#include "layers/layer.h"

namespace recurra {

// An elementwise function, or the softmax of each step.
template <class T>
class Activation final : public Layer<T> {
 public:
  Activation(const Devices&, const std::string& name);

  const char* kind() const override { return "activation"; }
  ptrdiff_t input_size() const override { return 0; }
  ptrdiff_t output_size() const override { return 0; }
  double work() const override { return 256; }  // some features, a few operations each

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int) override {}

 private:
  struct Tape;
  int kind_;
};

}  // namespace recurra
