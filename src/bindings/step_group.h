// What the coroutines of an event loop ask a pool for, in few Python objects.
#pragma once
#include "bindings/module.h"

namespace recurra::bindings {

void register_step_group(py::module_& m);

}  // namespace recurra::bindings
