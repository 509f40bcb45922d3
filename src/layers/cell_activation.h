// The activations of a cell in a layer's options, by name.
#pragma once
#include <string>
#include <utility>

#include "device/recurrent.h"
#include "platform/error.h"

namespace recurra {

// An activation inside a cell: "tanh", "sigmoid", "relu", "softsign", "linear", or "hard_sigmoid", which is
// clip(alpha x + beta, 0, 1). "" is the cell's default.
struct ActivationOption {
  std::string name;
  double alpha = 0, beta = 0;
};

// The option for the kernels: kNone if it is the cell's default.
inline CellActivation<double> cell_activation(const char* place, const ActivationOption& o, CellFunction own) {
  constexpr double kMost = 1e6;  // leaves room for products in float32
  if (o.name.empty()) return {};
  constexpr std::pair<const char*, CellFunction> kFunctions[] = {
      {"tanh", CellFunction::kTanh},         {"sigmoid", CellFunction::kSigmoid},
      {"relu", CellFunction::kRelu},         {"hard_sigmoid", CellFunction::kHardSigmoid},
      {"softsign", CellFunction::kSoftsign}, {"linear", CellFunction::kLinear},
  };
  check(own != CellFunction::kNone, "Recurrent", "got ", place, " '", o.name, "' for a cell that has none");
  for (const auto& [name, function] : kFunctions) {
    if (o.name != name) continue;
    if (function != CellFunction::kHardSigmoid)
      return function == own ? CellActivation<double>{} : CellActivation<double>{function, 0, 0};
    check(o.alpha > 0 && o.alpha <= kMost && o.beta >= -kMost && o.beta <= kMost, "Recurrent", place,
          " is a hard sigmoid with alpha ", o.alpha, " and beta ", o.beta, ", expected 0 < alpha <= ", kMost,
          " and beta from ", -kMost, " to ", kMost);
    return {function, o.alpha, o.beta};
  }
  fail("Recurrent", std::string("got ") + place + " '" + o.name +
                        "', expected tanh, sigmoid, relu, hard_sigmoid, softsign or linear");
}

}  // namespace recurra
