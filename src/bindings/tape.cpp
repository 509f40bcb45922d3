// Tape for Python: its output, its final state and its one backward.
#include "bindings/tape.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "bindings/activity.h"
#include "bindings/call.h"
#include "bindings/gradients.h"
#include "bindings/module.h"
#include "bindings/outputs.h"

namespace recurra::bindings {
namespace {

// Pairs of parameters and their flat gradient; the parameters must belong to layers of the program.
template <class T>
std::vector<ParameterGradient<T>> read_more(const Program<T>& program, const py::sequence& pairs,
                                            std::vector<py::object>& kept) {
  const char* name = program.name().c_str();
  std::vector<ParameterGradient<T>> more;
  for (const auto& item : pairs) {
    const auto pair = py::cast<std::pair<ParametersHandle, py::object>>(item);
    const auto* own = pair.first.template get<T>();
    const auto& nodes = program.graph().nodes();
    check(own && std::any_of(nodes.begin(), nodes.end(),
                             [&](const auto& node) { return node.layer->parameters() == *own; }),
          name, "got a gradient of parameters that belong to none of its layers");
    const py::array gradient = py::array_t<T, kPlain>(floats<T>(pair.second, name, "the parameters' gradient"));
    check_shape(gradient, {(*own)->size()}, name, "the parameters' gradient");
    more.push_back({own->get(), static_cast<const T*>(gradient.data())});
    kept.push_back(gradient);
  }
  return more;
}

template <class T>
py::tuple backward(Tape<T>& tape, const py::object& dy, const py::object& dstate, const py::sequence& pairs,
                   bool commits, const std::optional<GradientHandles>& to) {
  const auto memory = open_memory(tape);
  const Program<T>& program = tape.program();
  const char* name = program.name().c_str();
  const ptrdiff_t rows = tape.rows(), size = program.state_size(), inputs = program.graph().inputs(),
                  outputs = ptrdiff_t(program.graph().outputs().size());
  std::vector<py::object> kept, dx;
  std::vector<Sequence<const T>> dy_rows(static_cast<size_t>(outputs));
  for (ptrdiff_t i = 0; i < outputs; ++i) {
    const py::object given = part(dy, i, outputs, name, "dy");
    if (given.is_none()) continue;
    const std::string label = part_name("dy", i, outputs);
    const py::array a = numbers<T>(given, name, label.c_str(), true);
    const Value<T>& y = tape.output(i);
    check_shape(a, shape_of_value(y, tape.time_major()), name, label.c_str());
    dy_rows[size_t(i)] = sequence_of<const T>(a, tape.time_major());
    if (a.ptr() != given.ptr() && needs_conversion<T>(given))
      check_range(given, dy_rows[size_t(i)], y.batch, y.features, tape.time_major(), name, label.c_str());
    kept.push_back(a);
  }
  const std::vector<ParameterGradient<T>> more = read_more(program, pairs, kept);
  const GradientBuffers<T> buffers = read_buffers<T>(to, name);
  std::vector<T> dfinal, initial(size_t(rows * size));
  const bool any = read_state(program, rows, dstate, "dstate", dfinal);
  std::vector<Sequence<T>> dx_rows(static_cast<size_t>(inputs));
  for (ptrdiff_t i = 0; i < inputs; ++i) {
    dx.push_back(py::none());
    if (!tape.input_grad(i)) continue;
    py::array made = new_array<T>(shape_of_value(tape.input(i), tape.time_major()));
    dx_rows[size_t(i)] = sequence_of<T>(made, tape.time_major());
    dx.back() = std::move(made);
  }
  run_native(3 * tape.work(), [&](Stop* stop) {
    tape.backward(dy_rows.data(), {any ? dfinal.data() : nullptr, size}, dx_rows.data(), {initial.data(), size}, stop,
                  to ? &buffers : nullptr, more, commits);
  });
  return py::make_tuple(joined(std::move(dx)), state_arrays(program, rows, initial.data()));
}

template <class T>
py::object tape_output(const Tape<T>& tape) {
  const auto memory = open_memory(tape);
  std::vector<py::object> list;
  for (size_t i = 0; i < tape.program().graph().outputs().size(); ++i) {
    const Value<T>& y = tape.output(ptrdiff_t(i));
    list.push_back(view(shape_of_value(y, tape.time_major()), const_cast<T*>(y.x.features.data), memory, false));
  }
  return joined(std::move(list));
}

template <class T>
py::list tape_state(const Tape<T>& tape) {
  const auto memory = open_memory(tape);
  return state_arrays(tape.program(), tape.rows(), tape.final_state());
}

}  // namespace

void register_tape(py::module_& m) {
  py::class_<TapeHandle> type(m, "Tape");
  refuse_copies(type);
  type.def_property_readonly("y", RECURRA_ASK(TapeHandle, tape_output(*object)))
      .def_property_readonly("state", RECURRA_ASK(TapeHandle, tape_state(*object)))
      .def_property_readonly("nbytes", RECURRA_ASK(TapeHandle, object->bytes()))
      .def_property_readonly("closed", RECURRA_ASK(TapeHandle, object->closed() || object->used()))
      .def(
          "backward",
          [](const TapeHandle& self, const py::object& dy, const py::object& dstate, const py::sequence& more,
             bool commits, const std::optional<GradientHandles>& to) {
            return self.visit([&](const auto& tape) { return backward(*tape, dy, dstate, more, commits, to); });
          },
          py::arg("dy"), py::arg("dstate") = py::none(), py::arg("more") = py::tuple(), py::arg("commits") = true,
          py::arg("to") = py::none())
      .def("close", [](const TapeHandle& self) { self.visit([](const auto& tape) { tape->close(); }); });
  register_activity(type);
}

}  // namespace recurra::bindings
