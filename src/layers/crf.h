#pragma once
#include "layers/layer.h"

namespace recurra {

// The scores of a linear-chain CRF: each step's tag scores pass through; those of transitions, of the first and of the
// last tag are parameters. The loss reads the parameters and passes their gradient to the tape's backward().
template <class T>
class Crf final : public Layer<T> {
 public:
  Crf(const Devices&, ptrdiff_t tags);

  const char* kind() const override { return "crf"; }
  ptrdiff_t input_size() const override { return tags_; }
  ptrdiff_t output_size() const override { return tags_; }
  double work() const override { return 1; }

  void forward(const Run&, const LayerForward<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int) override {}

 protected:
  void count_gradient(const LayerForward<T>&, Memory&) const override {}

 private:
  ptrdiff_t tags_;
};

}  // namespace recurra
