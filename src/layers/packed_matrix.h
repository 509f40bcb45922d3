// A layer's matrix as the right side of products, for calls that multiply rows wherever they lie.
#pragma once
#include <algorithm>

#include "cpu/isa.h"
#include "layers/layer.h"

namespace recurra {

template <class T>
struct PackedMatrix {
  ptrdiff_t k = 0, columns = 0;
  const T* matrix = nullptr;
  const T* bias = nullptr;  // padded to whole vectors; null: none

  // W of shape (out, in): y = W x + b, or (transposed) x = W^T y.
  static PackedMatrix of(const T* weight, ptrdiff_t out, ptrdiff_t in, const T* bias, bool transposed, Arena& memory) {
    const Device<T>& device = cpu_device<T>();
    const ptrdiff_t k = transposed ? out : in, columns = transposed ? in : out;
    T* matrix = memory.take<T>(size_t(device.packed_size(k, columns)));
    device.pack_matrix(weight, k, columns, !transposed, matrix);
    T* padded = nullptr;
    if (bias) {
      const ptrdiff_t lanes = kernels<T>().lanes, n = (columns + lanes - 1) / lanes * lanes;
      padded = memory.take<T>(size_t(n));
      std::fill(std::copy_n(bias, columns, padded), padded + n, T(0));
    }
    return {k, columns, matrix, padded};
  }

  // y = x B + bias for rows at constant distances, on this thread.
  void multiply(ptrdiff_t rows, const T* x, ptrdiff_t x_row, T* y, ptrdiff_t y_row) const {
    kernels<T>().product({rows, k, columns, x, x_row, matrix, bias, y, y_row});
  }
  // The same over all valid steps of a batch.
  void multiply(const Run& run, const Batch& batch, Sequence<const T> x, Sequence<T> y) const {
    run.device<T>().product(run, batch, k, columns, matrix, bias, x, y);
  }
};

}  // namespace recurra
