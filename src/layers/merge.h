#pragma once
#include "layers/layer.h"

namespace recurra {

// Merges several inputs with the same steps, by the device's MergeKind. Has no parameters.
template <class T>
class Merge : public Layer<T> {
 public:
  const char* kind() const final;
  ptrdiff_t inputs() const final { return kind_ == MergeKind::kSubtract || kind_ == MergeKind::kDot ? 2 : 0; }
  bool joins() const final { return true; }
  ptrdiff_t input_size() const final { return 0; }
  ptrdiff_t output_size() const final { return 0; }
  ptrdiff_t output_features(const ptrdiff_t* features, ptrdiff_t inputs) const final;
  double work() const final { return 1; }

  void forward(const Run&, const LayerForward<T>&) final;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) final;
  void commit(LayerTape<T>&, Gradient<T>&, int) final {}

 protected:
  Merge(const Devices& devices, MergeKind kind) : Layer<T>(devices), kind_(kind) {}

 private:
  MergeKind kind_;
};

template <class T, MergeKind kKind>
class MergeOf final : public Merge<T> {
 public:
  explicit MergeOf(const Devices& devices) : Merge<T>(devices, kKind) {}
};
template <class T>
using Add = MergeOf<T, MergeKind::kAdd>;
template <class T>
using Multiply = MergeOf<T, MergeKind::kMultiply>;
template <class T>
using Subtract = MergeOf<T, MergeKind::kSubtract>;
template <class T>
using Average = MergeOf<T, MergeKind::kAverage>;
template <class T>
using Maximum = MergeOf<T, MergeKind::kMaximum>;
template <class T>
using Minimum = MergeOf<T, MergeKind::kMinimum>;
template <class T>
using Dot = MergeOf<T, MergeKind::kDot>;
template <class T>
using Concatenate = MergeOf<T, MergeKind::kConcatenate>;

}  // namespace recurra
