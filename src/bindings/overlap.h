// Overlap of arrays: an output must not overwrite an input that is still to be read.
#pragma once
#include <algorithm>

#include "bindings/arrays.h"

namespace recurra::bindings {

struct Extent {
  const char* begin;
  const char* end;
  bool meets(const Extent& other) const { return begin < other.end && other.begin < end; }
};

// An array's bytes, first to last; empty for an empty array.
inline Extent extent_of(const py::array& a) {
  const char* first = static_cast<const char*>(a.data());
  Extent extent = {first, first + a.itemsize()};
  for (ptrdiff_t i = 0; i < a.ndim(); ++i) {
    if (a.shape(i) == 0) return {first, first};
    const ptrdiff_t span = (a.shape(i) - 1) * a.strides(i);
    (span < 0 ? extent.begin : extent.end) += span;
  }
  return extent;
}

// Whether the two share an element. Columns of one array do not, though their extents meet.
inline bool share_memory(const py::array& a, const py::array& b) {
  if (!extent_of(a).meets(extent_of(b))) return false;
  return py::module_::import("numpy").attr("shares_memory")(a, b).cast<bool>();
}

// False if elements of the array share memory, as in a broadcast array.
inline bool is_spread_out(const py::array& a) {
  std::vector<std::pair<ptrdiff_t, ptrdiff_t>> axes;  // stride, bytes from the first element to the last
  for (ptrdiff_t i = 0; i < a.ndim(); ++i) {
    if (a.shape(i) == 0) return true;
    if (a.shape(i) > 1) axes.push_back({std::abs(a.strides(i)), std::abs(a.strides(i)) * (a.shape(i) - 1)});
  }
  std::sort(axes.begin(), axes.end());
  ptrdiff_t inner = a.itemsize();
  for (const auto& [stride, all] : axes) {
    if (stride < inner) return false;
    inner += all;
  }
  return true;
}

}  // namespace recurra::bindings
