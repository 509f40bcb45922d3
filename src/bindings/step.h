#pragma once
#include "bindings/handles.h"

namespace recurra::bindings {

// Replaces the type's method `step` by a C function: the fast path for arguments that need no conversion, which calls
// the replaced method for all others.
void quicken_step(py::class_<StreamHandle>& type);

}  // namespace recurra::bindings
