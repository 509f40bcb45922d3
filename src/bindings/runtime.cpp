#include <pybind11/stl.h>

#include "backend/isa.h"
#include "backend/measure.h"
#include "bindings/arrays.h"
#include "bindings/module.h"

namespace recurra::bindings {

void register_runtime(py::module_& m) {
  m.def("num_threads", &num_threads);
  m.def(
      "set_num_threads",
      [](int threads) {
        check(threads >= 1, "set_num_threads", "got ", threads, ", expected 1 or more");
        set_num_threads(threads);
      },
      py::arg("threads"));
  m.def("set_patient", &set_patient, py::arg("patient"));
  m.def("isa", &isa_name);
  m.def("build_info", [] {
    py::dict info;
    info["version"] = RECURRA_VERSION;
    info["compiler"] = RECURRA_COMPILER;
    info["isa"] = isa_name();
    info["isas_built"] = built_isas();
    info["isas_supported"] = supported_isas();
    info["default_threads"] = default_num_threads();
    info["cuda"] = false;
    return info;
  });
  m.def("measure_peak", [] {
    const Peak peak = measure_peak();
    py::dict d;
    d["fma_gflops"] = peak.fma_gflops;
    d["l2_gbs"] = peak.l2_gbs;
    d["l3_gbs"] = peak.l3_gbs;
    d["dram_gbs"] = peak.dram_gbs;
    return d;
  });
}

}  // namespace recurra::bindings
