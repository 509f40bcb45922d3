#pragma once
#include "bindings/handles.h"

namespace recurra::bindings {

void register_activity(py::class_<TapeHandle>& type);

}  // namespace recurra::bindings
