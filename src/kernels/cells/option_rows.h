// Whole rows of masks, as options use them forwards and backwards.
#pragma once
#include "kernels/cells/cell_options.h"
#include "kernels/simd/random.h"

namespace recurra::RECURRA_ISA {
namespace {

// to = 1 for the units that keep their old state in this step, else 0.
template <class T>
RECURRA_INLINE void zone_row(const typename CellOptions<T>::Zone& zone, ptrdiff_t row, ptrdiff_t time, T* to,
                             ptrdiff_t n) {
  mask_row(zone.key, (zone.first_row + uint64_t(row)) << 32 | uint64_t(time), zone.last, T(1), T(0), to, n);
}

// y = x mask
template <class T>
RECURRA_INLINE void multiply_row_by(const T* x, const T* mask, T* y, ptrdiff_t n) {
  typedef Vec<T> V;
  for (ptrdiff_t u = 0; u < n; u += kLanes<T>) store(y + u, load<V>(x + u, n - u) * load<V>(mask + u, n - u), n - u);
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
