#pragma once
#include "layers/layer.h"

namespace recurra {

// Reduces a sequence to a vector: its last valid step, or the mean or maximum over the valid steps.
template <class T>
class Pool final : public Layer<T> {
 public:
  Pool(const Devices&, const std::string& mode);

  const char* kind() const override { return "pool"; }
  ptrdiff_t input_size() const override { return 0; }
  ptrdiff_t output_size() const override { return 0; }
  bool needs_sequences() const override { return true; }
  bool returns_sequences() const override { return false; }
  bool streamable() const override { return false; }
  double work() const override { return 256; }  // some features, an operation or two each

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int) override {}

 private:
  struct Tape;
  PoolKind kind_;
};

}  // namespace recurra
