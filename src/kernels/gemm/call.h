// Plain products, as they cross the border between the code compiled once and the code compiled per ISA.
#pragma once
#include <stddef.h>

#include "kernels/gemm/storage.h"

// Inline functions here must not become symbols of an ISA's objects: the linker would keep one of them for all.
#define RECURRA_ALWAYS_INLINE inline __attribute__((always_inline))

namespace recurra {

// Columns [begin(p), begin(p + 1)) of a plain matrix, in vectors: at most `widest` a panel, evenly.
struct ColumnPanels {
  ptrdiff_t vectors, widest;
  RECURRA_ALWAYS_INLINE ptrdiff_t count() const { return (vectors + widest - 1) / widest; }
  RECURRA_ALWAYS_INLINE ptrdiff_t begin(ptrdiff_t p) const { return vectors * p / count(); }
};

// out(m, :) = [bias +] a(m, :) B; B packed by ColumnPanels as [panel][k][vectors].
template <class T>
struct ProductCall {
  ptrdiff_t rows, k, columns;
  const T* a;
  ptrdiff_t a_row;
  const void* b;
  const T* bias;  // padded to whole vectors; null: none
  T* out;
  ptrdiff_t out_row;
  const Storage<T>* storage = nullptr;  // of b; null: T itself
};

// out[k, n] += sum over rows of a(row, k) b(row, n), n < columns; out padded to whole vectors per row.
template <class T>
struct OuterCall {
  ptrdiff_t rows, k, columns;
  const T* a;
  ptrdiff_t a_row;
  const T* b;
  ptrdiff_t b_row;
  T* out;
  ptrdiff_t out_row;
  T* scratch;
};

}  // namespace recurra
