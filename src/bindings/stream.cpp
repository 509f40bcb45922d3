// Stream for Python: steps, chunks and the state between them.
#include "program/stream.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <utility>

#include "bindings/call.h"
#include "bindings/module.h"
#include "bindings/outputs.h"
#include "bindings/overlap.h"
#include "bindings/row_list.h"
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
                      const py::object& rows, Form form) {
  Program<T>& program = stream.program();
  const char* name = program.name().c_str();
  const ptrdiff_t inputs = program.graph().inputs();
  Call<T> call;
  read_inputs(call, program, x, form, false);
  const Batch& batch = call.inputs[0].batch;
  const GivenRows listed = read_rows(rows, stream.rows(), name);
  check(batch.rows == listed.count(stream.rows()), name, "x has ", batch.rows, " rows, expected ",
        listed.count(stream.rows()), listed.all ? ", the stream's batch_size" : ", one for each of `rows`");
  for (const Value<T>& input : call.inputs)
    check(input.batch.steps == batch.steps, name, "the inputs have ", batch.steps, " and ", input.batch.steps,
          " steps, expected the same number");
  check_tokens(call, program);
  check_ranges(call, program, false);
  for (ptrdiff_t i = 0; i < inputs; ++i) read_reset(call, program, i, reset, false);
  std::unique_ptr<Memory> scratch = program.scratch().take();
  const Value<T>* values = program.graph().plan(call.inputs.data(), scratch->host);
  Outputs<T> y = out.is_none() ? Outputs<T>(program, values, false) : given_outputs(call, program, values, out);
  const double work = program.graph().work(values);
  program.scratch().give_back(std::move(scratch));
  read_whole(program.versions(), [&] {
    run_native(work, [&](Stop* stop) { stream.run(call.inputs.data(), y.rows.data(), stop, listed.list()); });
  });
  return out.is_none() ? joined(std::move(y.arrays)) : out;
}

template <class T>
void stream_reset(Stream<T>& stream, const py::object& rows) {
  GivenRows listed = read_rows(rows, stream.rows(), stream.program().name().c_str());
  std::sort(listed.rows.begin(), listed.rows.end());
  listed.rows.erase(std::unique(listed.rows.begin(), listed.rows.end()), listed.rows.end());
  stream.reset(listed.list());
}

template <class T>
py::list stream_state(Stream<T>& stream, const py::object& rows) {
  const Program<T>& program = stream.program();
  const GivenRows listed = read_rows(rows, stream.rows(), program.name().c_str());
  if (listed.all) {
    const typename Stream<T>::Use use(stream);
    return state_arrays(program, stream.rows(), stream.state());
  }
  const ptrdiff_t n = listed.count(stream.rows());
  std::vector<T> state(size_t(n * program.state_size()));
  stream.read(listed.list(), state.data());
  return state_arrays(program, n, state.data());
}

template <class T>
void stream_load(Stream<T>& stream, const py::object& state, const py::object& rows) {
  const Program<T>& program = stream.program();
  const GivenRows listed = read_rows(rows, stream.rows(), program.name().c_str());
  const ptrdiff_t n = listed.count(stream.rows());
  std::vector<T> values;
  read_state(program, n, state, "state", values);
  if (values.empty()) values.assign(size_t(n * program.state_size()), T(0));
  stream.load(values.data(), listed.list());
}

template <class T>
void stream_copy(Stream<T>& stream, const py::object& source, const py::object& target) {
  const char* name = stream.program().name().c_str();
  const std::vector<int64_t> from = read_rows(source, stream.rows(), name, "source").rows;
  const std::vector<int64_t> to = read_rows(target, stream.rows(), name, "target").rows;
  check(from.size() == to.size(), name, "source has ", from.size(), " rows and target ", to.size(),
        ", expected as many");
  stream.copy(from.data(), to.data(), ptrdiff_t(to.size()));
}

}  // namespace

void register_stream(py::module_& m) {
  const auto run = [](Form form) {
    return [form](const StreamHandle& self, const py::object& x, const py::object& reset, const py::object& out,
                  const py::object& rows) {
      return self.visit([&](const auto& stream) { return stream_run(*stream, x, reset, out, rows, form); });
    };
  };
  py::class_<StreamHandle> stream(m, "Stream");
  refuse_copies(stream);
  stream.def_property_readonly("batch_size", RECURRA_ASK(StreamHandle, object->rows()))
      .def("step", run(Form::kStep), py::arg("x"), py::arg("reset") = py::none(), py::arg("out") = py::none(),
           py::arg("rows") = py::none())
      .def("process", run(Form::kSequences), py::arg("x"), py::arg("reset") = py::none(), py::arg("out") = py::none(),
           py::arg("rows") = py::none())
      .def(
          "reset",
          [](const StreamHandle& self, const py::object& rows) {
            self.visit([&](const auto& stream) { stream_reset(*stream, rows); });
          },
          py::arg("rows") = py::none())
      .def(
          "state",
          [](const StreamHandle& self, const py::object& rows) {
            return self.visit([&](const auto& stream) { return stream_state(*stream, rows); });
          },
          py::arg("rows") = py::none())
      .def(
          "load_state",
          [](const StreamHandle& self, const py::object& state, const py::object& rows) {
            self.visit([&](const auto& stream) { stream_load(*stream, state, rows); });
          },
          py::arg("state"), py::arg("rows") = py::none())
      .def(
          "copy_rows",
          [](const StreamHandle& self, const py::object& source, const py::object& target) {
            self.visit([&](const auto& stream) { stream_copy(*stream, source, target); });
          },
          py::arg("source"), py::arg("target"))
      .def(
          "fork",
          [](const StreamHandle& self, ptrdiff_t copies, const py::object& rows) {
            return self.visit([&](const auto& stream) {
              typedef RECURRA_TYPE_OF(stream) T;
              const GivenRows listed = read_rows(rows, stream->rows(), stream->program().name().c_str());
              return StreamHandle{std::shared_ptr<Stream<T>>(stream->fork(copies, listed.list()))};
            });
          },
          py::arg("copies"), py::arg("rows") = py::none());
  quicken_step(stream);
  // The numbers of rows, checked, for several streams and for layers that have none here.
  m.def(
      "listed_rows",
      [](const std::string& owner, const py::object& rows, ptrdiff_t batch_size, bool once) {
        const GivenRows given = read_rows(rows, batch_size, owner.c_str());
        std::vector<uint8_t> marks;
        check_range(given.list(), batch_size, owner.c_str(), "rows");
        if (once) check_repeats(given.list(), batch_size, owner.c_str(), "rows", marks);
        return py::array_t<int64_t>(py::ssize_t(given.rows.size()), given.rows.data());
      },
      py::arg("owner"), py::arg("rows"), py::arg("batch_size"), py::arg("once"));
}

}  // namespace recurra::bindings
