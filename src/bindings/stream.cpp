// Stream for Python: steps, chunks and the state between them.
#include "program/stream.h"

#include <pybind11/stl.h>

#include <numeric>
#include <utility>

#include "bindings/call.h"
#include "bindings/module.h"
#include "bindings/outputs.h"
#include "bindings/overlap.h"
#include "bindings/step.h"
#include "bindings/weights.h"

namespace recurra::bindings {
namespace {

// The caller's output arrays. An input that overlaps one of them is copied first.
template <class T>
Outputs<T> given_outputs(Call<T>& call, const Program<T>& program, const Value<T>* values, const py::object& out) {
  const char* name = program.name().c_str();
  const ptrdiff_t inputs = program.graph().inputs(), outputs = ptrdiff_t(program.graph().outputs().size());
  Outputs<T> y;
  for (ptrdiff_t i = 0; i < outputs; ++i) {
    const std::string label = part_name("out", i, outputs);
    const py::object given = part(out, i, outputs, name, "out");
    const py::array a = floats<T>(given, name, label.c_str());
    check_shape(a, shape_of_value(values[program.graph().outputs()[size_t(i)]], false), name, label.c_str());
    check(a.ptr() == given.ptr() && a.writeable(), name, label,
          " is read-only or not contiguous along its last axis, expected neither; give another array");
    check(is_spread_out(a), name, label,
          " has elements that share memory, as a broadcast array does; give a copy of it");
    for (ptrdiff_t k = 0; k < i; ++k)
      check(!share_memory(a, py::reinterpret_borrow<py::array>(y.arrays[size_t(k)])), name, label, " and out[", k,
            "] share memory, expected arrays that do not overlap; give a copy of one");
    for (ptrdiff_t k = 0; k < inputs; ++k) {
      const auto x = py::reinterpret_borrow<py::array>(call.kept[size_t(k)]);
      if (program.graph().values()[size_t(k)].tokens || !extent_of(x).meets(extent_of(a))) continue;
      const py::array copy = py::array_t<T, kPrivate>(x);
      call.inputs[size_t(k)].x.features = sequence_of<const T>(copy);
      call.kept[size_t(k)] = copy;
    }
    y.rows.push_back(sequence_of<T>(a));
    y.arrays.push_back(a);
  }
  return y;
}

template <class T>
py::object stream_run(Stream<T>& stream, const py::object& x, const py::object& reset, const py::object& out,
                      Form form) {
  Program<T>& program = stream.program();
  const char* name = program.name().c_str();
  const ptrdiff_t inputs = program.graph().inputs();
  Call<T> call;
  read_inputs(call, program, x, form, false);
  const Batch& batch = call.inputs[0].batch;
  check(batch.rows == stream.rows(), name, "x has ", batch.rows, " rows, expected ", stream.rows(),
        ", the stream's batch_size");
  for (const Value<T>& input : call.inputs)
    check(input.batch.steps == batch.steps, name, "the inputs have ", batch.steps, " and ", input.batch.steps,
          " steps, expected the same number");
  check_tokens(call, program);
  for (ptrdiff_t i = 0; i < inputs; ++i) read_reset(call, program, i, reset, false);
  std::unique_ptr<Memory> scratch = program.scratch().take();
  const Value<T>* values = program.graph().plan(call.inputs.data(), scratch->host);
  Outputs<T> y = out.is_none() ? Outputs<T>(program, values, false) : given_outputs(call, program, values, out);
  const double work = program.graph().work(values);
  program.scratch().give_back(std::move(scratch));
  read_whole(program.versions(),
             [&] { run_native(work, [&](Stop* stop) { stream.run(call.inputs.data(), y.rows.data(), stop); }); });
  return out.is_none() ? joined(std::move(y.arrays)) : out;
}

template <class T>
void stream_reset(Stream<T>& stream, const py::object& rows) {
  if (rows.is_none()) {
    std::vector<int64_t> all(size_t(stream.rows()));
    std::iota(all.begin(), all.end(), 0);
    stream.reset(all.data(), stream.rows());
    return;
  }
  const char* name = stream.program().name().c_str();
  const py::array list = integers(rows, name, "rows");
  check(list.ndim() == 1, name, "rows has shape ", shape_of{list}, ", expected (n,)");
  const auto* values = static_cast<const int64_t*>(list.data());
  for (ptrdiff_t i = 0; i < list.size(); ++i)
    check(values[i] >= 0 && values[i] < stream.rows(), name, "rows holds ", values[i], ", expected 0 to ",
          stream.rows() - 1);
  stream.reset(values, list.size());
}

template <class T>
py::list stream_state(Stream<T>& stream) {
  const typename Stream<T>::Use use(stream);
  return state_arrays(stream.program(), stream.rows(), stream.state());
}

template <class T>
void stream_load(Stream<T>& stream, const py::object& state) {
  std::vector<T> rows;
  read_state(stream.program(), stream.rows(), state, "state", rows);
  if (rows.empty()) rows.assign(size_t(stream.rows() * stream.program().state_size()), T(0));
  stream.load(rows.data());
}

}  // namespace

void register_stream(py::module_& m) {
  const auto run = [](Form form) {
    return [form](const StreamHandle& self, const py::object& x, const py::object& reset, const py::object& out) {
      return self.visit([&](const auto& stream) { return stream_run(*stream, x, reset, out, form); });
    };
  };
  py::class_<StreamHandle> stream(m, "Stream");
  refuse_copies(stream);
  stream.def_property_readonly("batch_size", RECURRA_ASK(StreamHandle, object->rows()))
      .def("step", run(Form::kStep), py::arg("x"), py::arg("reset") = py::none(), py::arg("out") = py::none())
      .def("process", run(Form::kSequences), py::arg("x"), py::arg("reset") = py::none(), py::arg("out") = py::none())
      .def(
          "reset",
          [](const StreamHandle& self, const py::object& rows) {
            self.visit([&](const auto& stream) { stream_reset(*stream, rows); });
          },
          py::arg("rows") = py::none())
      .def("state", RECURRA_ASK(StreamHandle, stream_state(*object)))
      .def(
          "load_state",
          [](const StreamHandle& self, const py::object& state) {
            self.visit([&](const auto& stream) { stream_load(*stream, state); });
          },
          py::arg("state"))
      .def(
          "fork",
          [](const StreamHandle& self, ptrdiff_t copies) {
            return self.visit([&](const auto& stream) {
              typedef RECURRA_TYPE_OF(stream) T;
              return StreamHandle{std::shared_ptr<Stream<T>>(stream->fork(copies))};
            });
          },
          py::arg("copies"));
  quicken_step(stream);
}

}  // namespace recurra::bindings
