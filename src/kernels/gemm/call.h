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

// A plain matrix, packed by ColumnPanels as [panel][k][vectors].
template <class T>
struct StoredMatrix {
  const void* panels = nullptr;
  const Storage<T>* storage = nullptr;  // null: T itself
  const T* scales = nullptr;            // one a column, padded to whole vectors; null: the format has none
  RECURRA_ALWAYS_INLINE StoredMatrix(const T* as_T = nullptr) : panels(as_T) {}
  RECURRA_ALWAYS_INLINE StoredMatrix(const void* packed, const Storage<T>* format, const T* of_columns)
      : panels(packed), storage(format), scales(of_columns) {}
};

// out(m, :) = [bias +] a(m, :) B.
template <class T>
struct ProductCall {
  ptrdiff_t rows, k, columns;
  const T* a;
  ptrdiff_t a_row;
  StoredMatrix<T> b;
  const T* bias;  // padded to whole vectors; null: none
  T* out;
  ptrdiff_t out_row;
};

// out[k, n] += sum over rows of a(row, k) b(row, n), n < columns. With scratch, of rows * padded columns, out is padded
// to whole vectors per row. Without, B is packed as [column panel][b_row rows][columns], zeros past the last one.
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
