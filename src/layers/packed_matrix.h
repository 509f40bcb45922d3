// A layer's matrix, packed as the right side of products with rows at any stride.
#pragma once
#include "layers/layer.h"

namespace recurra {

template <class T>
struct PackedMatrix {
  const Device<T>* device = nullptr;
  ptrdiff_t k = 0, columns = 0;
  StoredMatrix<T> matrix;
  const T* bias = nullptr;  // also packed, as T; null: none

  // Packs W of shape (out, in), for y = W x + b, or if `transposed` for x = W^T y.
  static PackedMatrix of(const Device<T>& device, const T* weight, ptrdiff_t out, ptrdiff_t in, const T* bias,
                         bool transposed, Arena& memory, StorageKind storage = kOwnStorage) {
    const ptrdiff_t k = transposed ? out : in, columns = transposed ? in : out;
    const StoredMatrix<T> matrix = device.store_matrix(weight, k, columns, !transposed, storage, memory);
    T* packed = nullptr;
    if (bias) {
      packed = memory.take<T>(size_t(device.packed_size(1, columns)));
      device.pack_matrix(bias, 1, columns, false, packed);
    }
    return {&device, k, columns, matrix, packed};
  }

  // y = x B + bias for rows at a constant stride, on the calling thread.
  void multiply(ptrdiff_t rows, const T* x, ptrdiff_t x_row, T* y, ptrdiff_t y_row) const {
    device->multiply({rows, k, columns, x, x_row, matrix, bias, y, y_row});
  }
  // The same over all valid steps of a batch.
  void multiply(const Run& run, const Batch& batch, Sequence<const T> x, Sequence<T> y) const {
    device->product(run, batch, k, columns, matrix, bias, x, y);
  }
};

}  // namespace recurra
