// What a gradient's norm is taken of, as a device is told of it; kernels/rows/optim_call.h has the optimisers' steps.
#pragma once
#include "device/batch.h"
#include "kernels/rows/optim_call.h"

namespace recurra {

// n numbers, or rows of n numbers each.
template <class T>
struct Numbers {
  const T* x;
  ptrdiff_t n;
  const int64_t* rows;  // null: there is one stretch
  ptrdiff_t count;      // of the rows
};

}  // namespace recurra
