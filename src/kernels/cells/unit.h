// The vocabulary of a cell's equations: one unit of one row at one step, over a value type V (a vector of units, or a
// scalar). Beside these structs the equations use the functions of kernels/simd/math.h and simd/activations.h, and
// nothing else.
#pragma once
#include "kernels/cells/cell_info.h"
#include "kernels/simd/activations.h"

namespace recurra::RECURRA_ISA {
namespace {

// For a cell's forward<stage>(), which turns pre-activations into the new state and leaves in `saved` what BPTT needs.
// The functions are the places where options come in; here, in the plain cell, there are none.
template <class V>
struct Unit {
  typedef V Value;
  V pre[4];    // in: pre-activations, in the order of the cell's columns
  V h;         // in: h of the previous step (cells with kUsesPrevious); out: h
  V c;         // the same for the LSTM's c
  V operand;   // out, all but the last stage: what the next stage's product multiplies
  V saved[4];  // out; between stages it carries what an earlier stage left

  template <class Own = Sigmoid>
  RECURRA_INLINE V gate_activation(V x) const {
    return Own::value(x);
  }
  template <class Own = Tanh>
  RECURRA_INLINE V candidate_activation(V x) const {
    return Own::value(x);
  }
  RECURRA_INLINE V peek(V a, int, V) const { return a; }
  RECURRA_INLINE V clip(V candidate) const { return candidate; }
  RECURRA_INLINE V output(V o, V candidate) { return o * tanh(candidate); }
  RECURRA_INLINE V zone_out(V candidate) const { return candidate; }
};

// For backward<stage>(), which runs with the stages in reverse.
template <class V>
struct Gradient {
  typedef V Value;
  V dh;                                   // in: gradient of h (last stage) or of the operand (earlier stages)
  V c, c_previous, h_previous, saved[4];  // in: from the tape, those the cell uses
  V dc;                                   // in: gradient of c from the step after; out: for the step before
  V pre[4];                               // out: gradient of the pre-activations
  V carry;                                // out: gradient of h of the previous step other than through a product
  V operand;  // out, stage 0 of cells with two: the operand again, for the weights' gradient

  // Derivatives of activations whose values are y.
  template <class Own = Sigmoid>
  RECURRA_INLINE V gate_derivative(V y) const {
    return Own::derivative(y, y);
  }
  template <class Own = Tanh>
  RECURRA_INLINE V candidate_derivative(V y) const {
    return Own::derivative(y, y);
  }
  // c before zoneout.
  RECURRA_INLINE V candidate(V, V, V) { return c; }
  // From dh and dc, the gradients of o (returned) and of the candidate.
  RECURRA_INLINE V output(V o, V value, V& of_candidate) {
    const V t = tanh(value);
    of_candidate = fma(dh * o, fma(-t, t, constant<V>(1)), dc);
    return dh * t;
  }
  // From the gradient of the clipped candidate to that of the unclipped one, once pre[3] is known, which peeks at it.
  RECURRA_INLINE V unclip(V d) const { return d; }
  // The gradient of c of the previous step, including that of the pre-activations that peek at it.
  RECURRA_INLINE V previous(V d) { return d; }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
