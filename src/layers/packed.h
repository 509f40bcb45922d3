// The right side of a product as the backend wants it, made from parameters.
#pragma once
#include <algorithm>
#include <memory>

#include "backend/backend.h"

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

}  // namespace recurra
