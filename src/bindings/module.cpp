#include "bindings/step_group.h"
#include "bindings/turns.h"
#include "cpu/isa.h"
#include "platform/error.h"
#include "platform/no_memory.h"

// PYBIND11_MODULE defines this function; called in a sub-interpreter, it would deadlock.
#define PyInit__core initialise_in_main_interpreter
PYBIND11_MODULE(_core, m) {
  using namespace recurra::bindings;
  m.doc() = "The native core of recurra.";
  m.attr("__version__") = RECURRA_VERSION;
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const recurra::TypeMismatch& e) {
      PyErr_SetString(PyExc_TypeError, e.what());
    } catch (const std::bad_alloc& e) {
      std::string text = recurra::NoMemory::text_of(e);
      if (text.find("; ") == std::string::npos) text += "; give fewer rows, shorter sequences or smaller sizes";
      PyErr_SetString(PyExc_MemoryError, text.c_str());
    }
  });
  recurra::isa();  // an invalid RECURRA_ISA fails at import, not at the first call
  register_runtime(m);
  register_parameters(m);
  register_layers(m);
  register_program(m);
  register_tape(m);
  register_stream(m);
  register_together(m);
  register_gradients(m);
  register_search(m);
  register_generation(m);
  register_losses(m);
  register_crf(m);
  register_ctc(m);
  register_optim(m);
  register_signals(m);
  register_turns(m);
  register_step_group(m);
}
#undef PyInit__core

extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return initialise_in_main_interpreter();
  PyErr_SetString(
      PyExc_ImportError,
      "recurra: imported in a sub-interpreter, expected the main interpreter; import it there, or use a separate "
      "process");
  return nullptr;
}
