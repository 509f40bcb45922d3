// The right side of a product as the backend wants it, made from parameters.
#pragma once
#include <algorithm>
#include <memory>

#include "layers/layer.h"

namespace recurra {

template <class T>
struct PackedMatrix {
  Arena memory;
  T* matrix = nullptr;
  T* bias = nullptr;  // a copy, so that a call sees one version of both; null: none
};

// `plain` is (columns, k) if `transposed`, else (k, columns); bias (columns), or null.
template <class T>
std::shared_ptr<const PackedMatrix<T>> pack_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed,
                                                   const T* bias) {
  auto made = std::make_shared<PackedMatrix<T>>();
  made->matrix = made->memory.template take<T>(size_t(cpu_backend<T>().packed_size(k, columns)));
  cpu_backend<T>().pack_matrix(plain, k, columns, transposed, made->matrix);
  if (bias) {
    made->bias = made->memory.template take<T>(size_t(columns));
    std::copy_n(bias, columns, made->bias);
  }
  return made;
}

// Single steps of a layer L whose forward is L::product() with its L::weights(): those are asked for again only when
// the parameters' version has moved on.
template <class T, class L>
class PackedStep final : public ForwardStep<T> {
 public:
  PackedStep(L& layer, ptrdiff_t rows, ptrdiff_t features, const TwoStates<T>& states)
      : ForwardStep<T>(rows, features, states), layer_(layer) {}

 private:
  void forward(const Run& run, const LayerForward<T>& call) override {
    if (!weights_.is_of(*layer_.parameters())) weights_ = layer_.weights(false);
    layer_.product(run, call, *weights_.value);
  }

  L& layer_;
  typename L::Weights weights_;
};

}  // namespace recurra
