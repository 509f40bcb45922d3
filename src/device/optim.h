// The arguments of a gradient's norm; kernels/rows/optim_call.h has those of the optimisers' steps.
#pragma once
#include "device/batch.h"
#include "kernels/rows/optim_call.h"

namespace recurra {

// n numbers, or rows of n numbers each.
template <class T>
struct Numbers {
  const T* x;
  ptrdiff_t n;
  const int64_t* rows;  // null: one flat range
  ptrdiff_t count;      // of rows
};

}  // namespace recurra
