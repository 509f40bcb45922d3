// What a cell's equations see: one unit (or a vector of units) of one row at one step.
#pragma once
#include "cells/call.h"
#include "simd/math.h"

namespace recurra::RECURRA_ISA {
namespace {

// Forwards. A cell's forward<stage>() turns pre-activations into the new state; it leaves in `saved` what BPTT needs.
template <class V>
struct Unit {
  V pre[4];    // in: pre-activations, in the order of the cell's columns
  V h;         // in: h of the step before (cells with kUsesPrevious); out: h
  V c;         // the same for the LSTM's c
  V operand;   // out, all but the last stage: what the next stage's product takes
  V saved[4];  // out; between stages it carries what an earlier stage left
};

// Backwards. backward<stage>() runs with the stages in reverse.
template <class V>
struct Gradient {
  V dh;                                   // in: gradient of h (last stage) or of the operand (earlier stages)
  V c, c_previous, h_previous, saved[4];  // in: from the tape, those the cell uses
  V dc;                                   // in: gradient of c from the step after; out: for the step before
  V pre[4];                               // out: gradient of the pre-activations
  V carry;                                // out: what reaches h of the step before without a product
  V operand;  // out, stage 0 of cells with two: the operand again, for the weights' gradient
};

// How the equations' vectors meet panels. Whole: a vector is units of one panel. Paired: a panel has half a vector of
// units, so a vector is those of two items (two rows of a panel, or two panels of a row), `next` elements apart; an odd
// last item is paired with itself (next = 0) and computed twice.
template <class T, bool paired>
struct Lanes {
  typedef Vec<T> V;
  typedef typename VecOf<T, kLanes<T> / (paired ? 2 : 1)>::type Piece;  // of one item
  static constexpr int kItems = paired ? 2 : 1;
  static RECURRA_INLINE V get(const T* p, ptrdiff_t next) {
    if constexpr (paired)
      return join<V>(load<HalfOf<V>>(p), load<HalfOf<V>>(p + next));
    else
      return load<V>(p);
  }
  static RECURRA_INLINE void put(T* p, ptrdiff_t next, V v) {
    if constexpr (paired) {
      store(p, low_half(v));
      store(p + next, high_half(v));
    } else {
      store(p, v);
    }
  }
  // Of each item only the first n, or n_next, elements exist.
  static RECURRA_INLINE V get(const T* p, ptrdiff_t next, ptrdiff_t n, ptrdiff_t n_next) {
    if constexpr (paired)
      return join<V>(load<HalfOf<V>>(p, n), load<HalfOf<V>>(p + next, n_next));
    else
      return load<V>(p, n);
  }
  static RECURRA_INLINE void put(T* p, ptrdiff_t next, V v, ptrdiff_t n, ptrdiff_t n_next) {
    if constexpr (paired) {
      store(p, low_half(v), n);
      store(p + next, high_half(v), n_next);
    } else {
      store(p, v, n);
    }
  }
};

template <class V>
RECURRA_INLINE V one() {
  return constant<V>(1);
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
