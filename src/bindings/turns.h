// Python calls that must not be interleaved with other calls on the same object, or with signal handlers.
#pragma once
#include "bindings/module.h"

namespace recurra::bindings {

void register_turns(py::module_& m);
void register_signals(py::module_& m);

}  // namespace recurra::bindings
