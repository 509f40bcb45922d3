#pragma once
#include "layers/layer.h"

namespace recurra {

// Selects the features begin, begin + step, ... below end.
template <class T>
class Slice final : public Layer<T> {
 public:
  Slice(const Devices&, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t step);

  const char* kind() const override { return "slice"; }
  ptrdiff_t input_size() const override { return 0; }
  ptrdiff_t output_size() const override { return count_; }
  ptrdiff_t output_features(const ptrdiff_t* features, ptrdiff_t inputs) const override;
  double work() const override { return 1; }

  void forward(const Run&, const LayerForward<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int) override {}

 private:
  ptrdiff_t begin_, end_, step_, count_;
};

}  // namespace recurra
