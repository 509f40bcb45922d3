// The vocabulary of cells whose gates only the input feeds: h' = a h + b, with a and b from the gates.
#pragma once
#include "kernels/cells/cell_info.h"
#include "kernels/simd/math.h"

namespace recurra::RECURRA_ISA {
namespace {

// For forward(), which turns pre-activations into the two coefficients.
template <class V>
struct ScanUnit {
  V pre[4];    // in
  V a, b;      // out: h' = a h + b
  V saved[4];  // out: the values that BPTT reads
};

// For backward(), which turns the gradient of h' into those of the pre-activations.
template <class V>
struct ScanGradient {
  V dh, h_previous, saved[4];  // in
  V pre[4];                    // out
  V a;                         // out: the coefficient, recomputed
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
