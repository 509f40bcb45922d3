// Commits the gradients and running statistics of several tapes, and gradients of layers written in Python, in one
// call: all or none, even if an exception arrives between two bytecodes.
#include <pybind11/stl.h>

#include <functional>

#include "bindings/handles.h"
#include "bindings/module.h"

namespace recurra::bindings {
namespace {

// Parameters and their flat gradients.
typedef std::vector<std::pair<const ParametersHandle*, py::object>> Own;

struct Addition {
  double work;
  std::function<void()> run;
};

template <class T>
Addition addition_of(const std::shared_ptr<Parameters<T>>& parameters, const py::object& object,
                     std::vector<py::object>& kept) {
  const py::array_t<T, kPlain> gradient(floats<T>(object, "add_gradients", "the gradient"));
  check_shape(gradient, {parameters->size()}, "add_gradients", "the gradient");
  check(!parameters->touched(), "add_gradients", "got sparse parameters, expected those of a layer written in Python");
  kept.push_back(gradient);
  return {double(parameters->size()), [parameters, from = gradient.data()] {
            const WriteLock lock(parameters->mutex());
            parameters->add_gradient(from);
          }};
}

void add_gradients(const std::vector<const TapeHandle*>& tapes, const Own& own) {
  for (const auto& pair : own) check(pair.first != nullptr, "add_gradients", "got None as parameters");
  for (const TapeHandle* tape : tapes) check(tape != nullptr, "add_gradients", "got None as a tape");
  std::vector<py::object> kept;
  std::vector<Addition> additions;
  for (const auto& [handle, gradient] : own)
    additions.push_back(handle->visit([&, &array = gradient](const auto& p) { return addition_of(p, array, kept); }));
  double work = 0;
  for (const Addition& addition : additions) work += addition.work;
  for (const TapeHandle* handle : tapes)
    handle->visit([&](const auto& tape) {
      tape->check_pending();
      work += tape->work();
    });
  run_native(work, [&](Stop*) {
    for (const TapeHandle* handle : tapes) handle->visit([](const auto& tape) { tape->commit(); });
    for (const Addition& addition : additions) addition.run();
  });
}

// Applies what recording changes in the layers (running statistics), once all tapes are recorded.
void finish_records(const std::vector<const TapeHandle*>& tapes) {
  for (const TapeHandle* tape : tapes) check(tape != nullptr, "finish_records", "got None as a tape");
  run_native(0, [&](Stop*) {
    for (const TapeHandle* handle : tapes) handle->visit([](const auto& tape) { tape->finish(); });
  });
}

}  // namespace

void register_gradients(py::module_& m) {
  m.def("add_gradients", &add_gradients, py::arg("tapes"), py::arg("own"));
  m.def("finish_records", &finish_records, py::arg("tapes"));
}

}  // namespace recurra::bindings
