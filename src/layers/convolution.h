#pragma once
#include "layers/layer.h"
#include "layers/packed.h"
#include "layers/window.h"

namespace recurra {

// The base of convolutions, whose weight has a place for each output channel, input channel and tap.
template <class T>
class Convolution : public Layer<T> {
 public:
  Convolution(const Devices&, const ConvolutionSpec&, ptrdiff_t groups, bool bias,
              const std::vector<int64_t>& weight_shape);

  ptrdiff_t input_size() const override { return spec_.in; }
  ptrdiff_t output_size() const override { return spec_.out; }
  Batch output_batch(const Batch&, Arena&) const override;
  bool streamable() const override { return keeps_steps(spec_) && spec_.right == 0; }
  // The past inputs that the next window reads.
  std::vector<StateSpec> states() const override;
  double work() const override;

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerStep<T>> prepare_step(ptrdiff_t rows, ptrdiff_t features) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

 private:
  virtual const char* operation() const = 0;  // as errors name it
  void count_gradient(const LayerForward<T>&, Memory& count) const override;
  friend class PackedStep<T, Convolution>;
  typedef typename Layer<T>::template Cached<OwnedMatrix<T>> Weights;
  Weights weights(bool transposed);
  void product(const Run&, const LayerForward<T>&, const OwnedMatrix<T>&) const;
  bool has_state() const { return streamable() && spec_.left > 0; }
  ptrdiff_t weight_size() const { return spec_.out_channels() * spec_.window(); }

  ConvolutionSpec spec_;
  ptrdiff_t groups_;
  bool bias_;
  Weights forward_, transposed_;
};

}  // namespace recurra
