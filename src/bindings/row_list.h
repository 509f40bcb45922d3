// The rows of a stream that a call names.
#pragma once
#include <vector>

#include "bindings/arrays.h"
#include "program/stream_state.h"

namespace recurra::bindings {

// A copy of them, as threads may write to the caller's array while the GIL is released.
struct GivenRows {
  bool all = true;
  std::vector<int64_t> rows;
  RowList list() const { return all ? RowList{} : RowList{rows.data(), ptrdiff_t(rows.size())}; }
  ptrdiff_t count(ptrdiff_t batch_size) const { return all ? batch_size : ptrdiff_t(rows.size()); }
};

// An array of what the caller gave, whose own conversion may raise anything.
inline py::array rows_array(const py::handle& object, const char* operation, const char* name) {
  const auto numpy = py::module_::import("numpy");
  try {
    return numpy.attr("atleast_1d")(numpy.attr("asarray")(object));
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    throw TypeMismatch(operation, std::string(name) + " is a " +
                                      std::string(py::str(py::type::of(object).attr("__name__"))) +
                                      " that is not an array, expected the numbers of rows; list them");
  }
}

// None: all of them; else an index, a list of indices, or a bool for every row. Whether the rows exist is not checked.
inline GivenRows read_rows(const py::handle& object, ptrdiff_t batch_size, const char* operation,
                           const char* name = "rows") {
  GivenRows given;
  if (object.is_none()) return given;
  given.all = false;
  py::array list = rows_array(object, operation, name);
  check(list.ndim() == 1, operation, name, " has shape ", shape_of{list},
        ", expected one axis; give a list of indices, or a bool for every row");
  if (list.dtype().kind() == 'b') {
    check(list.size() == batch_size, operation, name, " is a mask of shape ", shape_of{list}, ", expected (",
          batch_size, ",); give one bool for every row, or the indices of the rows");
    list = list.attr("nonzero")()[py::int_(0)];
  }
  if (!list.size()) return given;  // the array of [] has floats
  const py::array plain = integers(list, operation, name);
  const auto* values = static_cast<const int64_t*>(plain.data());
  given.rows.assign(values, values + plain.size());
  return given;
}

}  // namespace recurra::bindings
