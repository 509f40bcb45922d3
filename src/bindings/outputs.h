// The output arrays of a program's call.
#pragma once
#include "bindings/call.h"

namespace recurra::bindings {

// A single object as is, several as a tuple.
inline py::object joined(std::vector<py::object>&& list) {
  if (list.size() == 1) return std::move(list.front());
  py::tuple made(list.size());
  for (size_t i = 0; i < list.size(); ++i) made[i] = std::move(list[i]);
  return made;
}

// New arrays for the outputs of a planned call.
template <class T>
struct Outputs {
  std::vector<py::object> arrays;
  std::vector<Sequence<T>> rows;

  Outputs() = default;
  Outputs(const Program<T>& program, const Value<T>* values, bool time_major) {
    for (ptrdiff_t v : program.graph().outputs()) {
      py::array y = new_array<T>(shape_of_value(values[v], time_major));
      rows.push_back(sequence_of<T>(y, time_major));
      arrays.push_back(std::move(y));
    }
  }
};

}  // namespace recurra::bindings
