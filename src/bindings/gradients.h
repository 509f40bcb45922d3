#pragma once
#include <pybind11/stl.h>

#include <optional>

#include "bindings/handles.h"

namespace recurra::bindings {

typedef std::vector<const GradientHandle*> GradientHandles;

// Of the buffers that a backward's gradients go to, those of a program's dtype.
template <class T>
GradientBuffers<T> read_buffers(const std::optional<GradientHandles>& handles, const char* operation) {
  GradientBuffers<T> buffers;
  for (const GradientHandle* handle : handles.value_or(GradientHandles{})) {
    check(handle != nullptr, operation, "got None as a gradient, expected an object of the core");
    if (const auto* own = handle->template get<T>()) buffers.push_back(own->get());
  }
  return buffers;
}

}  // namespace recurra::bindings
