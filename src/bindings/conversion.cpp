#include "bindings/conversion.h"

namespace recurra::bindings {

py::array converted(const py::handle& object, const char* operation, const char* name, const char* dtype, bool padded) {
  const auto checks = py::module_::import("recurra.common.checks");
  if (!*dtype) return checks.attr("array")(operation, name, object);
  return checks.attr("floats")(operation, name, object, dtype, padded);
}

}  // namespace recurra::bindings
