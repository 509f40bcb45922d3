// What a cell's equations see: one unit (or a vector of units) of one row at one step.
#pragma once
#include "kernels/cells/call.h"
#include "kernels/simd/math.h"

namespace recurra::RECURRA_ISA {
namespace {

// Forwards. A cell's forward<stage>() turns pre-activations into the new state; it leaves in `saved` what BPTT needs.
// The functions are where options of the LSTM's c come in; the plain cell has none.
template <class V>
struct Unit {
  typedef V Value;
  V pre[4];    // in: pre-activations, in the order of the cell's columns
  V h;         // in: h of the step before (cells with kUsesPrevious); out: h
  V c;         // the same for the LSTM's c
  V operand;   // out, all but the last stage: what the next stage's product takes
  V saved[4];  // out; between stages it carries what an earlier stage left

  RECURRA_INLINE V peek(V a, int, V) const { return a; }
  RECURRA_INLINE V clip(V candidate) const { return candidate; }
  RECURRA_INLINE V output(V o, V candidate) { return o * tanh(candidate); }
  RECURRA_INLINE V zone_out(V candidate) const { return candidate; }
};

// With options, any of them neutral: peephole weights of zero, an infinite limit, zone of zero.
template <class V>
struct OptionalUnit : Unit<V> {
  V peephole[3], limit, zone;
  V candidate;      // out: c before zoneout
  bool normalised;  // h is made later, from the candidate's layer norm: o takes its place

  RECURRA_INLINE V peek(V a, int i, V cell) const { return fma(peephole[i], cell, a); }
  RECURRA_INLINE V clip(V value) const { return min(limit, max(-limit, value)); }
  RECURRA_INLINE V output(V o, V value) {
    candidate = value;
    return normalised ? o : o * tanh(value);
  }
  RECURRA_INLINE V zone_out(V value) const { return fma(zone, this->c - value, value); }
};

template <class V, bool optional>
struct UnitOf {
  typedef Unit<V> type;
};
template <class V>
struct UnitOf<V, true> {
  typedef OptionalUnit<V> type;
};

// Backwards. backward<stage>() runs with the stages in reverse.
template <class V>
struct Gradient {
  typedef V Value;
  V dh;                                   // in: gradient of h (last stage) or of the operand (earlier stages)
  V c, c_previous, h_previous, saved[4];  // in: from the tape, those the cell uses
  V dc;                                   // in: gradient of c from the step after; out: for the step before
  V pre[4];                               // out: gradient of the pre-activations
  V carry;                                // out: what reaches h of the step before without a product
  V operand;  // out, stage 0 of cells with two: the operand again, for the weights' gradient

  // c before zoneout.
  RECURRA_INLINE V candidate(V, V, V) { return c; }
  // The gradients of o, returned, and of the candidate, from those of h and of c.
  RECURRA_INLINE V output(V o, V value, V& of_candidate) {
    const V t = tanh(value);
    of_candidate = fma(dh * o, fma(-t, t, constant<V>(1)), dc);
    return dh * t;
  }
  // From the candidate to what it was before it was clipped, once pre[3] is known, which peeks at it.
  RECURRA_INLINE V unclip(V d) const { return d; }
  // To c of the step before, with the pre-activations that peek at it.
  RECURRA_INLINE V previous(V d) { return d; }
};

template <class V>
struct OptionalGradient : Gradient<V> {
  V peephole[3], limit, zone;
  bool normalised;  // dh is o's gradient, and of_norm is what reaches the candidate through its layer norm
  V of_norm;
  V of_peephole[3];  // out
  V projected = {};  // out: o tanh(candidate), which a projection takes

  RECURRA_INLINE V candidate(V i, V f, V g) {
    unclipped = fma(f, this->c_previous, i * g);
    clipped = min(limit, max(-limit, unclipped));
    return clipped;
  }
  RECURRA_INLINE V output(V o, V value, V& of_candidate) {
    kept = this->dc * zone;
    const V rest = this->dc - kept;
    if (normalised) {
      of_candidate = of_norm + rest;
      return this->dh;
    }
    const V t = tanh(value);
    projected = o * t;
    of_candidate = fma(this->dh * o, fma(-t, t, constant<V>(1)), rest);
    return this->dh * t;
  }
  RECURRA_INLINE V unclip(V d) const {
    const V sum = fma(this->pre[3], peephole[2], d);
    return unclipped == clipped ? sum : V{};
  }
  RECURRA_INLINE V previous(V d) {
    of_peephole[0] = this->pre[0] * this->c_previous;
    of_peephole[1] = this->pre[1] * this->c_previous;
    of_peephole[2] = this->pre[3] * clipped;
    return fma(this->pre[0], peephole[0], fma(this->pre[1], peephole[1], d)) + kept;
  }

 private:
  V unclipped, clipped, kept;
};

template <class V, bool optional>
struct GradientOf {
  typedef Gradient<V> type;
};
template <class V>
struct GradientOf<V, true> {
  typedef OptionalGradient<V> type;
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
