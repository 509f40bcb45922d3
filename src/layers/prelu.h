#pragma once
#include "layers/layer.h"

namespace recurra {

// x where x > 0, else weight x, with a learnt weight for each channel or for all.
template <class T>
class PRelu final : public Layer<T> {
 public:
  PRelu(const Devices&, ptrdiff_t num_parameters);

  const char* kind() const override { return "prelu"; }
  ptrdiff_t input_size() const override { return 0; }
  ptrdiff_t output_size() const override { return 0; }
  ptrdiff_t output_features(const ptrdiff_t* features, ptrdiff_t inputs) const override;
  double work() const override { return 256; }  // some features, an operation each

  void forward(const Run&, const LayerForward<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

 private:
  const T* slopes(Arena& memory, ptrdiff_t features) const;

  ptrdiff_t channels_;
};

}  // namespace recurra
