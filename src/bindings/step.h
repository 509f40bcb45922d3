#pragma once
#include "bindings/handles.h"

namespace recurra::bindings {

// Puts a C function before the type's method `step`, which has to be there: it takes the steps that need no conversion,
// and passes all others on.
void quicken_step(py::class_<StreamHandle>& type);

}  // namespace recurra::bindings
