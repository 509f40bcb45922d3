#pragma once
#include "layers/image.h"

namespace recurra {

struct WindowPoolOptions {
  std::string mode;  // "max" or "mean"
  ptrdiff_t kernel_size = 1, stride = 1;
  std::string padding;     // "causal", "same" or "valid"
  ptrdiff_t features = 0;  // 0: any number, and no state
};

// The maximum or mean of each feature or channel over windows; padding does not enter them.
template <class T>
class WindowPool : public Layer<T> {
 public:
  WindowPool(const Devices&, const char* operation, const std::string& mode, const ConvolutionSpec&);

  ptrdiff_t input_size() const override { return spec_.in; }
  ptrdiff_t output_size() const override { return spec_.out; }
  Batch output_batch(const Batch&, Arena&) const override;
  bool streamable() const override;
  // The past inputs that the next window reads, and how many of them exist.
  std::vector<StateSpec> states() const override;
  double work() const override { return 256.0 * double(spec_.taps() * spec_.places()) / double(spec_.stride); }

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int) override {}

 protected:
  bool pools_maximum() const { return kind_ == PoolKind::kMax; }

 private:
  struct Tape;
  bool has_state() const { return streamable() && spec_.left > 0; }
  ptrdiff_t past_size() const { return spec_.left * spec_.in; }
  PooledWindows<T> pooled(const ConvolutionSpec&, const Batch&, Sequence<const T> x, StateRows<const T> state) const;

  PoolKind kind_;
  ConvolutionSpec spec_;  // in: 0 for any
};

template <class T>
class WindowPool1d final : public WindowPool<T> {
 public:
  WindowPool1d(const Devices&, const WindowPoolOptions&);
  const char* kind() const override { return this->pools_maximum() ? "max_pool1d" : "avg_pool1d"; }
  bool needs_sequences() const override { return true; }
};

// Of images, as Conv2d has them.
template <class T>
class WindowPool2d final : public WindowPool<T> {
 public:
  WindowPool2d(const Devices&, const std::string& mode, const ImageOptions&);
  const char* kind() const override { return this->pools_maximum() ? "max_pool2d" : "avg_pool2d"; }
  bool needs_sequences() const override { return !whole_; }

 private:
  bool whole_;  // each step holds an image
};

}  // namespace recurra
