#include <pybind11/stl.h>

#include <atomic>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "cpu/isa.h"
#include "cpu/measure.h"
#include "platform/caches.h"
#include "platform/fork.h"
#include "platform/tasks.h"
#include "platform/threads.h"

namespace recurra::bindings {
namespace {

std::atomic<unsigned long> main_thread{0};

long polls_left = 0;  // polls until handler_raised() simulates a SIGINT; 0: never

// The forking thread becomes the child's main thread.
void note_main_thread() { main_thread.store(PyThread_get_thread_ident()); }

}  // namespace

bool handler_raised(void*) {
  const py::gil_scoped_acquire acquire;
  if (polls_left > 0 && --polls_left == 0) PyErr_SetInterrupt();
  return PyErr_CheckSignals() != 0;
}

bool on_main_thread() { return main_thread.load() == PyThread_get_thread_ident(); }

void register_runtime(py::module_& m) {
  main_thread.store(py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>());
  at_fork(nullptr, nullptr, note_main_thread);
  m.def("num_threads", &num_threads);
  m.def(
      "set_num_threads",
      [](int threads) {
        check(threads >= 1, "set_num_threads", "got ", threads, ", expected 1 or more");
        set_num_threads(threads);
      },
      py::arg("threads"));
  m.def("set_patient", &set_patient, py::arg("patient"));
  m.def(
      "set_caches",
      [](ptrdiff_t l1, ptrdiff_t l2) {
        constexpr ptrdiff_t most = ptrdiff_t(1) << 40;  // plans calculate with them
        check(l1 >= 0 && l1 <= most && l2 >= 0 && l2 <= most, "set_caches", "got ", l1, " and ", l2,
              ", expected bytes, from 0 to 2^40");
        set_caches({l1, l2});
      },
      py::arg("l1"), py::arg("l2"));
  m.def("caches", [] { return std::make_pair(caches().l1, caches().l2); });
  m.def(
      "interrupt_at",
      [](long poll) {
        set_eager_stops(poll > 0);
        return std::exchange(polls_left, poll);
      },
      py::arg("poll"));
  m.def("set_eager", &set_eager, py::arg("eager"));
  m.def("isa", &isa_name);
  m.attr("isa_flags") = RECURRA_ISA_FLAGS;  // of the compiler, "avx512 -mavx512f ...|avx2 ...|"
  m.def("build_info", [] {
    py::dict info;
    info["version"] = RECURRA_VERSION;
    info["compiler"] = RECURRA_COMPILER;
    info["isa"] = isa_name();
    info["isas_built"] = built_isas();
    info["isas_supported"] = supported_isas();
    info["threads"] = thread_kind();
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
