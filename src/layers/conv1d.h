#pragma once
#include "layers/layer.h"
#include "layers/packed.h"
#include "layers/window.h"

namespace recurra {

struct Conv1dOptions {
  ptrdiff_t in_channels = 0, out_channels = 0, kernel_size = 1, stride = 1, dilation = 1;
  std::string padding;  // "causal", "same" or "valid"
  bool bias = true;
};

// A convolution over steps.
template <class T>
class Conv1d final : public Layer<T> {
 public:
  Conv1d(const Devices&, const Conv1dOptions&);

  const char* kind() const override { return "conv1d"; }
  ptrdiff_t input_size() const override { return spec_.in; }
  ptrdiff_t output_size() const override { return spec_.out; }
  bool needs_sequences() const override { return true; }
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
  friend class PackedStep<T, Conv1d>;
  typedef typename Layer<T>::template Cached<OwnedMatrix<T>> Weights;
  Weights weights(bool transposed);
  void product(const Run&, const LayerForward<T>&, const OwnedMatrix<T>&) const;
  bool has_state() const { return streamable() && spec_.left > 0; }
  ptrdiff_t weight_size() const { return spec_.out * spec_.kernel * spec_.in; }

  ConvolutionSpec spec_;
  bool bias_;
  Weights forward_, transposed_;
};

}  // namespace recurra
