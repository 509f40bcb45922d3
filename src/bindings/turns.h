// Python calls and what must not come in between: other calls of the same object, and signals.
#pragma once
#include "bindings/module.h"

namespace recurra::bindings {

void register_turns(py::module_& m);
void register_signals(py::module_& m);

}  // namespace recurra::bindings
