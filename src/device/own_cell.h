// A cell that a user has defined: its numbers, the names of its parameters, and its equations, which were compiled for
// the instruction set in use and are never unloaded.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "kernels/cells/cell_info.h"
#include "kernels/cells/scan_call.h"

namespace recurra {

struct OwnCell {
  std::string name;
  CellInfo info = {};
  // In the order of the flat buffer: (H, I), (H, H), (H) added to the products with x, (H).
  std::vector<std::string> input_weights, hidden_weights, biases, vectors;
  std::string state;  // the name of the second state
  ScanCell<float> f32 = {};
  ScanCell<double> f64 = {};
  template <class T>
  const ScanCell<T>& equations() const {
    if constexpr (sizeof(T) == sizeof(float))
      return f32;
    else
      return f64;
  }
};

}  // namespace recurra
