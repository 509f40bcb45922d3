#include "bindings/turns.h"
#include "cpu/isa.h"
#include "platform/error.h"
#include "platform/no_memory.h"

// The one that PYBIND11_MODULE defines; in a sub-interpreter it waits for ever.
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
  recurra::isa();  // a wrong RECURRA_ISA is an error at import, not in the middle of work
  register_runtime(m);
  register_parameters(m);
  register_layers(m);
  register_program(m);
  register_tape(m);
  register_stream(m);
  register_together(m);
  register_gradients(m);
  register_search(m);
  register_losses(m);
  register_crf(m);
  register_ctc(m);
  register_optim(m);
  register_signals(m);
  register_turns(m);
}
#undef PyInit__core

extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return initialise_in_main_interpreter();
  PyErr_SetString(
      PyExc_ImportError,
      "recurra: got an import in a sub-interpreter, expected the process's main interpreter; import it there, "
      "or start a process of its own");
  return nullptr;
}
