// The activity of a tape's recurrent stacks, for `recurra.diagnose`.
#include "bindings/activity.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <utility>

#include "bindings/tape.h"

namespace recurra::bindings {
namespace {

// Of a node's recurrent stack, for each layer and direction: (h (N, T, size), values saved for backward (N, T, values *
// H), c (N, T, H) or None), zeros past the lengths. An empty list for a node that is not recurrent.
template <class T>
py::list tape_activity(Tape<T>& tape, size_t node) {
  py::list list;
  const typename Tape<T>::Use use(tape);
  const auto memory = open_memory(tape);
  check(node < tape.program().graph().nodes().size(), tape.program().name().c_str(), "no node ", node);
  const RecurrentPart<T> part = tape.recurrent(node);
  if (!part.tape) return list;
  const RecurrentSpec& spec = *part.spec;
  const Device<T>& device = tape.program().devices().template of<T>();
  const CellInfo& cell = spec.info(device);
  const Batch& batch = tape.node_batch(node);
  const int64_t rows = batch.rows, steps = batch.steps, H = spec.hidden_size;
  for (ptrdiff_t i = 0; i < spec.layers * spec.directions; ++i) {
    const auto zeros = [&](int64_t size) {
      py::array made = new_array<T>({rows, steps, size});
      std::fill_n(static_cast<T*>(made.mutable_data()), made.size(), T(0));
      return made;
    };
    py::array h = zeros(spec.state_size()), saved = zeros(cell.saved * H);
    py::object c = cell.has_cell ? py::object(zeros(H)) : py::none();
    RecurrentActivity<T> to = {sequence_of<T>(h), sequence_of<T>(saved), {}, part.order};
    if (cell.has_cell) to.c = sequence_of<T>(py::reinterpret_borrow<py::array>(c));
    check(device.read_tape(spec, *part.tape, size_t(i), to), tape.program().name().c_str(),
          "got a tape recorded with memory_budget, expected one that holds all steps; record without memory_budget");
    list.append(py::make_tuple(std::move(h), std::move(saved), std::move(c)));
  }
  return list;
}

// For each node: (layers * directions, N, T) if it is recurrent, else None.
template <class T>
py::list tape_gradient_norms(Tape<T>& tape) {
  py::list list;
  const typename Tape<T>::Use use(tape);
  const auto memory = open_memory(tape);
  for (size_t i = 0; i < tape.gradient_norms().size(); ++i) {
    const std::vector<double>& norms = tape.gradient_norms()[i];
    const RecurrentPart<T> part = tape.recurrent(i);
    if (!part.tape) {
      list.append(py::none());
      continue;
    }
    const Batch& batch = tape.node_batch(i);
    const ptrdiff_t slots = part.spec->layers * part.spec->directions;
    py::array made = new_array<double>({slots, batch.rows, batch.steps});
    auto* to = static_cast<double*>(made.mutable_data());
    for (ptrdiff_t k = 0; k < slots * batch.rows; ++k) {
      const ptrdiff_t row = k % batch.rows;
      std::copy_n(norms.data() + k * batch.steps, batch.steps,
                  to + (k - row + (part.order ? part.order[row] : row)) * batch.steps);
    }
    list.append(std::move(made));
  }
  return list;
}

template <class T>
void keep_gradient_norms(Tape<T>& tape) {
  const typename Tape<T>::Use use(tape);
  const auto memory = open_memory(tape);
  tape.keep_gradient_norms();
}

}  // namespace

void register_activity(py::class_<TapeHandle>& type) {
  type.def(
          "activity",
          [](const TapeHandle& self, size_t node) {
            return self.visit([&](const auto& tape) { return tape_activity(*tape, node); });
          },
          py::arg("node"))
      .def("keep_gradient_norms",
           [](const TapeHandle& self) { self.visit([](const auto& tape) { keep_gradient_norms(*tape); }); })
      .def_property_readonly("gradient_norms", RECURRA_ASK(TapeHandle, tape_gradient_norms(*object)));
}

}  // namespace recurra::bindings
