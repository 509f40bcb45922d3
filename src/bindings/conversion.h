// What a call reads may have another dtype, or be a list: it is converted as `fit` does.
#pragma once
#include <cmath>
#include <limits>

#include "bindings/arrays.h"

namespace recurra::bindings {

// `object` as an array of `dtype` (empty: as it is), by a function of the package's `checks`, which refuses masked
// elements, text and complex numbers, and unless `padded` numbers that are too large.
py::array converted(const py::handle& object, const char* operation, const char* name, const char* dtype = "",
                    bool padded = false);

inline py::array any_array(const py::handle& object, const char* operation, const char* name) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  return converted(object, operation, name);
}

template <class T>
bool needs_conversion(const py::handle& object) {
  return !py::isinstance<py::array>(object) || !is_of<T>(py::reinterpret_borrow<py::array>(object));
}

// Numbers as an array of T. `padded`: check_range follows, as too large a number may lie in the padding.
template <class T>
py::array numbers(const py::handle& object, const char* operation, const char* name, bool padded = false) {
  if (!needs_conversion<T>(object)) return readable<T>(py::reinterpret_borrow<py::array>(object));
  return converted(object, operation, name, dtype_name<T>(), padded);
}

// Refuses numbers of `given` that are too large for T, and so infinite in `x`, its conversion. Padding is not looked
// at.
template <class T>
void check_range(const py::handle& given, const Sequence<const T>& x, const Batch& batch, ptrdiff_t features,
                 bool time_major, const char* operation, const char* name) {
  for (ptrdiff_t r = 0; r < batch.rows; ++r)
    for (ptrdiff_t s = 0; s < batch.length(r); ++s)
      for (ptrdiff_t f = 0; f < features; ++f) {
        if (!std::isinf(x.at(r, s)[f])) continue;
        const py::array_t<double, kPlain> wide(py::reinterpret_borrow<py::object>(given));
        const double value = wide.ndim() == 2 ? wide.at(r, f) : time_major ? wide.at(s, r, f) : wide.at(r, s, f);
        check(std::isinf(value), operation, name, " holds ", value, " in row ", r, " at step ", s,
              ", expected at most ", std::numeric_limits<T>::max(), ", the largest ", dtype_name<T>(),
              "; scale it, or make the layers with dtype='float64'");
      }
}

}  // namespace recurra::bindings
