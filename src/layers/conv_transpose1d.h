#pragma once
#include "layers/layer.h"
#include "layers/packed.h"

namespace recurra {

struct ConvTranspose1dOptions {
  ptrdiff_t in_channels = 0, out_channels = 0, kernel_size = 1, stride = 1, dilation = 1, padding = 0,
            output_padding = 0, groups = 1;
  bool bias = true;
};

// The transposed convolution over steps: y is the gradient of the input of a convolution, of whose output x is one.
template <class T>
class ConvTranspose1d final : public Layer<T> {
 public:
  ConvTranspose1d(const Devices&, const ConvTranspose1dOptions&);

  const char* kind() const override { return "conv_transpose1d"; }
  ptrdiff_t input_size() const override { return spec_.out; }
  ptrdiff_t output_size() const override { return spec_.in; }
  bool needs_sequences() const override { return true; }
  Batch output_batch(const Batch&, Arena&) const override;
  bool streamable() const override { return false; }
  double work() const override { return double(spec_.window() * spec_.out); }

  void forward(const Run&, const LayerForward<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

 private:
  typedef typename Layer<T>::template Cached<OwnedMatrix<T>> Weights;
  Weights weights(bool transposed);
  void count_gradient(const LayerForward<T>&, Memory& count) const override;
  ptrdiff_t made_steps(ptrdiff_t steps) const;

  ConvolutionSpec spec_;  // of the convolution: from y to x
  ptrdiff_t output_padding_, groups_;
  bool bias_;
  Weights forward_, transposed_;
};

}  // namespace recurra
