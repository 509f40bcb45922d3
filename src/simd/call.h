// Kinds of elementwise functions, as they cross the border between the code compiled once and the code compiled per
// ISA.
#pragma once

namespace recurra {

enum ActivationKind { kRelu, kLeakyRelu, kElu, kTanh, kSigmoid, kGelu, kSilu, kSoftplus, kSoftmax, kActivations };

}  // namespace recurra
