#pragma once
#include "layers/layer.h"

namespace recurra {

// A parameter as a value: the same vector for every row. Only the number of rows of the input is used.
template <class T>
class LearntVector final : public Layer<T> {
 public:
  LearntVector(const Devices&, ptrdiff_t features);

  const char* kind() const override { return "learnt_vector"; }
  ptrdiff_t input_size() const override { return 0; }
  ptrdiff_t output_size() const override { return this->parameters()->size(); }
  bool returns_sequences() const override { return false; }
  bool streamable() const override { return false; }
  double work() const override { return 1; }

  void forward(const Run&, const LayerForward<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int) override;
};

}  // namespace recurra
