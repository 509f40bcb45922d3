// The options of a cell (docs/cell_options.md), as a kernel's call carries them.
#pragma once
#include <stdint.h>

#include "kernels/cells/layout.h"

namespace recurra {

// Options beyond the plain cell, uniform over a call. Unused fields stay zero.
template <class T>
struct CellOptions {
  bool any;
  ptrdiff_t state_size;  // of h: hidden_size, or less with a projection
  UnitVectors vectors;
  const T* unit_weights;  // [panel][vectors]
  ptrdiff_t group;        // rows whose gradients of the vectors are summed at once
  T clip;                 // infinity: none
  // Whether h' = W_hr (o tanh(c')). W_hr is packed as the right side of a product: for forward() in the weights'
  // storage format, for backward() transposed, as T.
  bool projected;
  StoredMatrix<T> projection;
  const T* recurrent_mask;  // [caller's row][mask_row], multiplies h as the products see it; null: none
  ptrdiff_t mask_row;
  // Zoneout of h and of c: the share of the old state that is kept, or (random) the chance that a unit keeps all of it.
  struct Zone {
    T rate;
    bool random;
    uint64_t key, first_row;  // row 0's number
    uint32_t last;
  } zone_h, zone_c;
  CellActivations<T> activations;
  RECURRA_ALWAYS_INLINE bool normalised() const { return vectors.columns > 0; }
};

}  // namespace recurra
