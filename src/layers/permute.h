#pragma once
#include "layers/layer.h"

namespace recurra {

// Reorders each step's features, which are an array of `shape`: axis i of the output is axis dims[i] of the input.
template <class T>
class Permute final : public Layer<T> {
 public:
  Permute(const Devices&, const std::vector<ptrdiff_t>& shape, const std::vector<ptrdiff_t>& dims);

  const char* kind() const override { return "permute"; }
  ptrdiff_t input_size() const override { return size_; }
  ptrdiff_t output_size() const override { return size_; }
  double work() const override { return double(size_); }

  void forward(const Run&, const LayerForward<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int) override {}

 private:
  // An axis of the output: its size, and the distance of neighbours in the input and in the output.
  struct Axis {
    ptrdiff_t size, from, to;
  };
  template <class F>
  void for_each_line(const F& f) const;

  ptrdiff_t size_;
  std::vector<Axis> outer_;
  Axis inner_;
};

}  // namespace recurra
