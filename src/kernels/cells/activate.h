// A cell's activations where a call may choose others. The choice is the same for a whole call: one branch that is
// always predicted, and a function out of line for what the cell does not have itself.
#pragma once
#include "kernels/cells/activation.h"
#include "kernels/simd/activations.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class V>
__attribute__((noinline)) V chosen_value(const CellActivation<Lane<V>>& chosen, V x) {
  switch (chosen.function) {
    case CellFunction::kTanh:
      return Tanh::value(x);
    case CellFunction::kSigmoid:
      return Sigmoid::value(x);
    case CellFunction::kRelu:
      return Relu::value(x);
    case CellFunction::kHardSigmoid:
      return HardSigmoid<Lane<V>>{chosen.alpha, chosen.beta}.value(x);
    case CellFunction::kSoftsign:
      return Softsign::value(x);
    default:
      return x;
  }
}

template <class V>
__attribute__((noinline)) V chosen_derivative(const CellActivation<Lane<V>>& chosen, V y) {
  switch (chosen.function) {
    case CellFunction::kTanh:
      return Tanh::derivative(y, y);
    case CellFunction::kSigmoid:
      return Sigmoid::derivative(y, y);
    case CellFunction::kRelu:
      return Relu::derivative(y, y);
    case CellFunction::kHardSigmoid:
      return HardSigmoid<Lane<V>>{chosen.alpha, chosen.beta}.derivative(y, y);
    case CellFunction::kSoftsign:
      return Softsign::derivative(y, y);
    default:
      return constant<V>(1);
  }
}

// The chosen activation of x, or that of the cell, Own.
template <class Own, class V>
RECURRA_INLINE V activate(const CellActivation<Lane<V>>& chosen, V x) {
  if (__builtin_expect(chosen.function != CellFunction::kNone, 0)) return chosen_value(chosen, x);
  return Own::value(x);
}
// Its derivative where its value is y.
template <class Own, class V>
RECURRA_INLINE V derivative(const CellActivation<Lane<V>>& chosen, V y) {
  if (__builtin_expect(chosen.function != CellFunction::kNone, 0)) return chosen_derivative(chosen, y);
  return Own::derivative(y, y);
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
