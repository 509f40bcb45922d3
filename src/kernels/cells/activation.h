// The activations of a cell as data, so that weights trained elsewhere mean the same here.
#pragma once

namespace recurra {

enum class CellFunction : int { kNone, kTanh, kSigmoid, kRelu, kHardSigmoid, kSoftsign, kLinear };

// A cell's own activations; kNone: it has no such place.
struct CellFunctions {
  CellFunction gate;
  CellFunction candidate;  // in the plain RNN, of h
  CellFunction output;     // of the LSTM's c on its way to h
};

// One chosen in place of the cell's own; kNone: the cell's own.
template <class T>
struct CellActivation {
  CellFunction function;
  T alpha, beta;  // of the hard sigmoid, clip(alpha x + beta, 0, 1)
};

template <class T>
struct CellActivations {
  CellActivation<T> gate, candidate, output;
};

template <class T>
constexpr bool any_chosen(const CellActivations<T>& a) {
  return a.gate.function != CellFunction::kNone || a.candidate.function != CellFunction::kNone ||
         a.output.function != CellFunction::kNone;
}

}  // namespace recurra
