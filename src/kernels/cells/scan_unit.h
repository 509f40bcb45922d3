// The vocabulary of cells that run in the loops of kernels/cells/scan_forward.h: one unit of one row at one step.
#pragma once
#include "kernels/cells/scan_call.h"
#include "kernels/simd/activations.h"

namespace recurra::RECURRA_ISA {
namespace {

// For forward(), which turns pre-activations and the old state into the new one.
template <class V>
struct ScanUnit {
  V pre[kScanColumns];     // in
  V x;                     // in, where the cell reads it as it is
  V vector[kScanVectors];  // in: the cell's parameters of one number a unit
  V h, c;                  // in: of the step before; out: of this one
  V saved[kScanSaved];     // out: the values that BPTT reads
};

// For backward(), which turns the gradients of the new state into those of all that forward() has read.
template <class V>
struct ScanGradient {
  V x, vector[kScanVectors], h_previous, c_previous, c, saved[kScanSaved];  // in
  V dh;                                                                     // in
  V dc;                                                                     // in; out: that of c of the step before
  V carry;                      // out: that of h of the step before other than through a product
  V pre[kScanColumns];          // out
  V dx, dvector[kScanVectors];  // out
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
