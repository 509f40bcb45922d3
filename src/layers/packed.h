// Parameters packed as the right side of a product, in the device's layout.
#pragma once
#include <memory>

#include "layers/packed_matrix.h"

namespace recurra {

// Owns its memory and copies the bias too, so that a call sees one version of both.
template <class T>
struct OwnedMatrix : PackedMatrix<T> {
  Arena memory;
};

// `plain` is (columns, k) if `transposed`, else (k, columns); bias is (columns) or null. The matrix takes `memory`
// over.
template <class T>
std::unique_ptr<OwnedMatrix<T>> pack_matrix(const Device<T>& device, const T* plain, ptrdiff_t k, ptrdiff_t columns,
                                            bool transposed, const T* bias, Arena memory,
                                            StorageKind storage = kOwnStorage) {
  auto made = std::make_unique<OwnedMatrix<T>>();
  made->memory = std::move(memory);
  static_cast<PackedMatrix<T>&>(*made) =
      transposed ? PackedMatrix<T>::of(device, plain, columns, k, bias, false, made->memory, storage)
                 : PackedMatrix<T>::of(device, plain, k, columns, bias, true, made->memory, storage);
  return made;
}

// Single steps of a layer L whose forward is L::product() with L::weights(), which are fetched again only when the
// parameters' version has changed.
template <class T, class L>
class PackedStep final : public ForwardStep<T> {
 public:
  PackedStep(L& layer, ptrdiff_t features) : ForwardStep<T>(layer.devices(), features), layer_(layer) {}

 private:
  void forward(const Run& run, const LayerForward<T>& call) override {
    if (!weights_.is_of(*layer_.parameters())) weights_ = layer_.weights(false);
    layer_.product(run, call, *weights_.value);
  }

  L& layer_;
  typename L::Weights weights_;
};

}  // namespace recurra
