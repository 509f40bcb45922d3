// What maths over rows takes beside the rows, as it crosses the border between the code compiled once and the code
// compiled per ISA.
#pragma once

namespace recurra {

enum ActivationKind { kRelu, kLeakyRelu, kElu, kTanh, kSigmoid, kGelu, kSilu, kSoftplus, kSoftmax, kActivations };

template <class T>
struct ClassWeights {
  const T* weights;  // null: 1 each
  T sum;             // of them
  T smoothing;       // the share of a target that is spread evenly over the classes
};

}  // namespace recurra
