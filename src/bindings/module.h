#pragma once
#include <pybind11/pybind11.h>

namespace recurra::bindings {

namespace py = pybind11;

void register_runtime(py::module_& m);
void register_parameters(py::module_& m);
void register_layers(py::module_& m);
void register_program(py::module_& m);
void register_tape(py::module_& m);
void register_stream(py::module_& m);
void register_together(py::module_& m);
void register_gradients(py::module_& m);
void register_search(py::module_& m);
void register_generation(py::module_& m);
void register_losses(py::module_& m);
void register_crf(py::module_& m);
void register_ctc(py::module_& m);
void register_optim(py::module_& m);

}  // namespace recurra::bindings
