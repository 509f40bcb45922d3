// A cell's unit with options: where they come into the equations, forwards and backwards.
#pragma once
#include "kernels/cells/activate.h"
#include "kernels/cells/unit.h"

namespace recurra::RECURRA_ISA {
namespace {

// Options that are off have neutral values: no chosen activations, peephole weights of zero, an infinite limit, a zone
// of zero.
template <class V>
struct OptionalUnit : Unit<V> {
  const CellActivations<Lane<V>>* activations;
  V peephole[3], limit, zone;
  V candidate;      // out: c before zoneout
  bool normalised;  // h is computed later, from the candidate's layer norm: output() returns o instead

  template <class Own = Sigmoid>
  RECURRA_INLINE V gate_activation(V x) const {
    return activate<Own>(activations->gate, x);
  }
  template <class Own = Tanh>
  RECURRA_INLINE V candidate_activation(V x) const {
    return activate<Own>(activations->candidate, x);
  }
  RECURRA_INLINE V peek(V a, int i, V cell) const { return fma(peephole[i], cell, a); }
  RECURRA_INLINE V clip(V value) const { return min(limit, max(-limit, value)); }
  RECURRA_INLINE V output(V o, V value) {
    candidate = value;
    return normalised ? o : o * activate<Tanh>(activations->output, value);
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

template <class V>
struct OptionalGradient : Gradient<V> {
  const CellActivations<Lane<V>>* activations;
  V peephole[3], limit, zone;
  bool normalised;  // dh is the gradient of o, and of_norm that of the candidate through its layer norm
  V of_norm;
  V of_peephole[3];  // out
  V projected = {};  // out: o tanh(candidate), the input of a projection

  template <class Own = Sigmoid>
  RECURRA_INLINE V gate_derivative(V y) const {
    return derivative<Own>(activations->gate, y);
  }
  template <class Own = Tanh>
  RECURRA_INLINE V candidate_derivative(V y) const {
    return derivative<Own>(activations->candidate, y);
  }
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
    const V t = activate<Tanh>(activations->output, value);
    projected = o * t;
    of_candidate = fma(this->dh * o, derivative<Tanh>(activations->output, t), rest);
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

}  // namespace
}  // namespace recurra::RECURRA_ISA
