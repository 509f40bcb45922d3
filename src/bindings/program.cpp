#include "program/program.h"

#include <pybind11/stl.h>

#include "bindings/call.h"
#include "bindings/module.h"
#include "bindings/step.h"

namespace recurra::bindings {
namespace {

ProgramHandle make_program(const std::vector<const LayerHandle*>& layers, const std::string& name) {
  check(!layers.empty(), name.c_str(), "got no layers, expected at least one");
  return layers.front()->visit([&](const auto& first) -> ProgramHandle {
    typedef RECURRA_TYPE_OF(first) T;
    std::vector<std::shared_ptr<Layer<T>>> list;
    for (const LayerHandle* layer : layers) {
      const auto* same = std::get_if<std::shared_ptr<Layer<T>>>(&layer->object);
      check(same != nullptr, name.c_str(), "the layers are of ", layers.front()->dtype(), " and ", layer->dtype(),
            ", expected one dtype for all");
      list.push_back(*same);
    }
    return {std::make_shared<Program<T>>(std::move(list), name)};
  });
}

template <class T>
py::tuple forward(Program<T>& program, const py::object& x, const py::object& lengths, const py::object& reset,
                  const py::object& state, bool time_major) {
  Call<T> call = read_call(program, x, lengths, reset, state, time_major);
  py::array y = new_array<T>(call.output_shape(program, time_major));
  const ptrdiff_t rows = call.input.batch.rows, size = program.state_size();
  std::vector<T> final_state(size_t(rows * size));
  run_native(call.work(program), [&](Stop* stop) {
    call.input.stop = stop;
    std::unique_ptr<Arena> scratch = program.scratch().take();
    program.forward(call.input, call.features, sequence_of<T>(y, time_major), {final_state.data(), size}, *scratch);
    program.scratch().give_back(std::move(scratch));
  });
  return py::make_tuple(std::move(y), state_arrays(program, rows, final_state.data()));
}

template <class T>
TapeHandle record(Program<T>& program, const py::object& x, const py::object& lengths, const py::object& reset,
                  const py::object& state, bool time_major, bool training, bool input_grad, uint64_t seed) {
  Call<T> call = read_call(program, x, lengths, reset, state, time_major);
  std::shared_ptr<Tape<T>> tape;
  run_native(call.work(program), [&](Stop* stop) {
    call.input.stop = stop;
    tape = program.record(call.input, call.features, call.vector, time_major, training, input_grad, seed);
  });
  return {tape};
}

template <class T>
const Tape<T>& open_tape(const Tape<T>& tape) {
  check(!tape.closed(), tape.program().name().c_str(), "the tape is closed; record again");
  return tape;
}

// (row, step, feature) as the caller sees it; vectors have no step.
std::vector<int64_t> caller_shape(const Batch& batch, ptrdiff_t features, bool vector, bool time_major) {
  if (vector) return {batch.rows, features};
  if (time_major) return {batch.steps, batch.rows, features};
  return {batch.rows, batch.steps, features};
}

template <class T>
py::tuple backward(Tape<T>& tape, const py::object& dy, const py::object& dstate) {
  open_tape(tape);
  const Program<T>& program = tape.program();
  const char* name = program.name().c_str();
  const bool time_major = tape.time_major();
  const ptrdiff_t rows = tape.batch().rows, size = program.state_size();
  py::array dy_array = no_array();
  Sequence<const T> dy_rows = {};
  if (!dy.is_none()) {
    dy_array = floats<T>(dy, name, "dy");
    check_shape(dy_array, caller_shape(tape.output_batch(), tape.output_features(), tape.output_vector(), time_major),
                name, "dy");
    dy_rows = sequence_of<const T>(dy_array, time_major);
  }
  std::vector<T> dfinal, initial(size_t(rows * size));
  const bool any = read_state(program, rows, dstate, "dstate", dfinal);
  py::object dx = py::none();
  Sequence<T> dx_rows = {};
  if (tape.input_grad()) {
    py::array made = new_array<T>(caller_shape(tape.batch(), tape.features(), tape.vector(), time_major));
    dx_rows = sequence_of<T>(made, time_major);
    dx = std::move(made);
  }
  run_native(3 * tape.work(), [&](Stop* stop) {
    tape.backward(dy_rows, {any ? dfinal.data() : nullptr, size}, dx_rows, {initial.data(), size}, stop);
  });
  return py::make_tuple(std::move(dx), state_arrays(program, rows, initial.data()));
}

template <class T>
py::array tape_output(const Tape<T>& tape) {
  const auto y = open_tape(tape).y();
  const auto shape = caller_shape(tape.output_batch(), tape.output_features(), tape.output_vector(), tape.time_major());
  return view(shape, const_cast<T*>(y.data), tape.memory(), false);
}

template <class T>
py::array stream_run(Stream<T>& stream, const py::object& x, const py::object& reset, const py::object& out,
                     Form form) {
  Program<T>& program = stream.program();
  const char* name = program.name().c_str();
  Call<T> call;
  read_input(call, program, x, form, false);
  check(call.input.batch.rows == stream.rows(), name, "x has ", call.input.batch.rows, " rows, expected ",
        stream.rows(), ", the stream's batch_size");
  check_tokens(call, program);
  read_reset(call, program, reset, false);
  const auto shape = call.output_shape(program, false);
  py::array y = no_array();
  if (out.is_none()) {
    y = new_array<T>(shape);
  } else {
    y = floats<T>(out, name, "out");
    check_shape(y, shape, name, "out");
    check(y.ptr() == out.ptr() && y.writeable(), name, "out must be writable and contiguous along its last axis");
  }
  run_native(call.work(program),
             [&](Stop* stop) { stream.run(call.input.batch, call.input.x, call.features, sequence_of<T>(y), stop); });
  return y;
}

template <class T>
void stream_reset(Stream<T>& stream, const py::object& rows) {
  if (rows.is_none()) {
    for (ptrdiff_t r = 0; r < stream.rows(); ++r) stream.reset(r);
    return;
  }
  const char* name = stream.program().name().c_str();
  const py::array list = integers(rows, name, "rows");
  check(list.ndim() == 1, name, "rows has shape ", shape_of{list}, ", expected (n,)");
  const auto* values = static_cast<const int64_t*>(list.data());
  for (ptrdiff_t i = 0; i < list.size(); ++i)
    check(values[i] >= 0 && values[i] < stream.rows(), name, "rows holds ", values[i], ", expected 0 to ",
          stream.rows() - 1);
  for (ptrdiff_t i = 0; i < list.size(); ++i) stream.reset(values[i]);
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
  const typename Stream<T>::Use use(stream);
  std::copy(rows.begin(), rows.end(), stream.state());
}

// A property or method of a handle that asks its object.
#define RECURRA_ASK(Handle, expression) \
  [](const Handle& self) { return self.visit([](const auto& object) { return expression; }); }

void register_programs(py::module_& m) {
  py::class_<ProgramHandle>(m, "Program")
      .def(py::init(&make_program), py::arg("layers"), py::arg("name"))
      .def_property_readonly("dtype", &ProgramHandle::dtype)
      .def_property_readonly("input_kind", RECURRA_ASK(ProgramHandle, object->takes_tokens() ? "tokens" : "features"))
      .def_property_readonly("input_size", RECURRA_ASK(ProgramHandle, object->input_size()))
      .def_property_readonly("output_size", RECURRA_ASK(ProgramHandle, object->output_size()))
      .def_property_readonly("returns_sequences", RECURRA_ASK(ProgramHandle, object->returns_sequences()))
      .def_property_readonly("streamable", RECURRA_ASK(ProgramHandle, object->streamable()))
      .def_property_readonly("state_spec",
                             RECURRA_ASK(ProgramHandle, ([&] {
                                           std::vector<std::tuple<ptrdiff_t, std::string, ptrdiff_t, ptrdiff_t>> list;
                                           for (const auto& state : object->states())
                                             list.emplace_back(state.layer, state.spec.name, state.spec.count,
                                                               state.spec.size);
                                           return list;
                                         }())))
      .def(
          "forward",
          [](const ProgramHandle& self, const py::object& x, const py::object& lengths, const py::object& reset,
             const py::object& state, bool time_major) {
            return self.visit([&](const auto& p) { return forward(*p, x, lengths, reset, state, time_major); });
          },
          py::arg("x"), py::arg("lengths") = py::none(), py::arg("reset") = py::none(), py::arg("state") = py::none(),
          py::arg("time_major") = false)
      .def(
          "record",
          [](const ProgramHandle& self, const py::object& x, const py::object& lengths, const py::object& reset,
             const py::object& state, bool time_major, bool training, bool input_grad, uint64_t seed) {
            return self.visit([&](const auto& p) {
              return record(*p, x, lengths, reset, state, time_major, training, input_grad, seed);
            });
          },
          py::arg("x"), py::arg("lengths") = py::none(), py::arg("reset") = py::none(), py::arg("state") = py::none(),
          py::arg("time_major") = false, py::arg("training") = true, py::arg("input_grad") = true, py::arg("seed") = 0)
      .def(
          "stream",
          [](const ProgramHandle& self, ptrdiff_t batch_size) {
            return self.visit([&](const auto& p) {
              typedef RECURRA_TYPE_OF(p) T;
              return StreamHandle{std::make_shared<Stream<T>>(p, batch_size)};
            });
          },
          py::arg("batch_size"));
}

void register_tapes(py::module_& m) {
  py::class_<TapeHandle>(m, "Tape")
      .def_property_readonly("y", RECURRA_ASK(TapeHandle, tape_output(*object)))
      .def_property_readonly(
          "state", RECURRA_ASK(TapeHandle,
                               state_arrays(open_tape(*object).program(), object->batch().rows, object->final_state())))
      .def_property_readonly("nbytes", RECURRA_ASK(TapeHandle, object->bytes()))
      .def_property_readonly("closed", RECURRA_ASK(TapeHandle, object->closed()))
      .def(
          "backward",
          [](const TapeHandle& self, const py::object& dy, const py::object& dstate) {
            return self.visit([&](const auto& tape) { return backward(*tape, dy, dstate); });
          },
          py::arg("dy"), py::arg("dstate") = py::none())
      .def("close", [](const TapeHandle& self) { self.visit([](const auto& tape) { tape->close(); }); });
}

void register_streams(py::module_& m) {
  const auto run = [](Form form) {
    return [form](const StreamHandle& self, const py::object& x, const py::object& reset, const py::object& out) {
      return self.visit([&](const auto& stream) { return stream_run(*stream, x, reset, out, form); });
    };
  };
  py::class_<StreamHandle> stream(m, "Stream");
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

}  // namespace

void register_program(py::module_& m) {
  register_programs(m);
  register_tapes(m);
  register_streams(m);
}

}  // namespace recurra::bindings
