#include "bindings/module.h"

#include "backend/isa.h"
#include "platform/error.h"

PYBIND11_MODULE(_core, m) {
  using namespace recurra::bindings;
  m.doc() = "The native core of recurra.";
  m.attr("__version__") = RECURRA_VERSION;
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const recurra::TypeMismatch& e) {
      PyErr_SetString(PyExc_TypeError, e.what());
    }
  });
  recurra::isa();  // a wrong RECURRA_ISA is an error at import, not in the middle of work
  register_runtime(m);
  register_parameters(m);
  register_layers(m);
  register_program(m);
  register_search(m);
  register_losses(m);
  register_crf(m);
  register_ctc(m);
  register_optim(m);
}
