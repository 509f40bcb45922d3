#include "program/program.h"

#include <pybind11/stl.h>

#include <numeric>
#include <utility>

#include "bindings/call.h"
#include "bindings/module.h"
#include "bindings/overlap.h"
#include "bindings/step.h"
#include "bindings/weights.h"
#include "cpu/isa.h"

namespace recurra::bindings {
namespace {

// (layer, values that it reads, for each of its states the value that it begins with or -1; none: all -1)
typedef std::tuple<const LayerHandle*, std::vector<ptrdiff_t>, std::vector<ptrdiff_t>> PyNode;
typedef std::pair<std::string, ptrdiff_t> PyInput;  // kind, features

InputSpec input_spec(const PyInput& input, const char* name) {
  for (const auto& [kind, axis] :
       {std::pair{"either", Axis::kEither}, {"sequence", Axis::kSequence}, {"vector", Axis::kVector}})
    if (input.first == kind) return {axis, input.second};
  fail(name, "got an input of kind '" + input.first + "', expected 'either', 'sequence' or 'vector'");
}

ProgramHandle make_program(const std::string& name, const std::vector<PyInput>& inputs,
                           const std::vector<PyNode>& nodes, const std::vector<ptrdiff_t>& outputs) {
  check(!nodes.empty(), name.c_str(), "got no layers, expected at least one");
  for (const PyNode& node : nodes)
    check(std::get<0>(node) != nullptr, name.c_str(), "got None as a layer, expected a layer of the core");
  const LayerHandle& first_layer = *std::get<0>(nodes.front());
  return first_layer.visit([&](const auto& first) -> ProgramHandle {
    typedef RECURRA_TYPE_OF(first) T;
    GraphSpec<T> graph;
    for (const PyInput& input : inputs) graph.inputs.push_back(input_spec(input, name.c_str()));
    for (const auto& [layer, reads, states] : nodes) {
      const auto* same = layer->template get<T>();
      check(same != nullptr, name.c_str(), "the layers are of ", first_layer.dtype(), " and ", layer->dtype(),
            ", expected one dtype for all");
      graph.nodes.push_back({*same, reads, states});
    }
    graph.outputs = outputs;
    return {std::make_shared<Program<T>>(graph, name)};
  });
}

// One as it is, several as a tuple.
py::object joined(std::vector<py::object>&& list) {
  if (list.size() == 1) return std::move(list.front());
  py::tuple made(list.size());
  for (size_t i = 0; i < list.size(); ++i) made[i] = std::move(list[i]);
  return std::move(made);
}

// New arrays for the outputs of a planned call.
template <class T>
struct Outputs {
  std::vector<py::object> arrays;
  std::vector<Sequence<T>> rows;

  Outputs() = default;
  Outputs(const Program<T>& program, const Value<T>* values, bool time_major) {
    for (ptrdiff_t v : program.graph().outputs()) {
      py::array y = new_array<T>(shape_of_value(values[v], time_major));
      rows.push_back(sequence_of<T>(y, time_major));
      arrays.push_back(std::move(y));
    }
  }
};

// Runs f(), and says what wanted memory where there is none.
template <class T, class F>
void with_memory(const Call<T>& call, const Program<T>& program, const F& f) {
  try {
    f();
  } catch (const std::bad_alloc& error) {
    const std::vector<int64_t> shape = shape_of_value(call.inputs[0], false);
    throw NoMemory(program.name() + ": " + NoMemory::text_of(error) + ", with x of shape " +
                   shape_text(shape.data(), int(shape.size())) + "; give fewer rows or steps at once");
  }
}

template <class T>
py::tuple forward(Program<T>& program, const py::object& x, const py::object& lengths, const py::object& reset,
                  const py::object& state, bool time_major) {
  const Call<T> call = read_call(program, x, lengths, reset, state, time_major);
  std::unique_ptr<Arena> scratch = program.scratch().take();
  Value<T>* values = program.graph().plan(call.inputs.data(), *scratch);
  Outputs<T> y(program, values, time_major);
  const ptrdiff_t rows = call.rows(), size = program.state_size();
  std::vector<T> final_state(size_t(rows * size));
  with_memory(call, program, [&] {
    read_whole(program.versions(), [&] {
      run_native(program.graph().work(values), [&](Stop* stop) {
        program.forward(call.input(stop), values, y.rows.data(), {final_state.data(), size}, *scratch);
      });
    });
  });
  program.scratch().give_back(std::move(scratch));
  return py::make_tuple(joined(std::move(y.arrays)), state_arrays(program, rows, final_state.data()));
}

template <class T>
TapeHandle record(Program<T>& program, const py::object& x, const py::object& lengths, const py::object& reset,
                  const py::object& state, bool time_major, bool training, const py::object& input_grad, uint64_t seed,
                  std::optional<size_t> memory_budget, bool finishes) {
  const Call<T> call = read_call(program, x, lengths, reset, state, time_major);
  const ptrdiff_t count = program.graph().inputs();
  const auto wanted = std::make_unique<bool[]>(size_t(count));
  for (ptrdiff_t i = 0; i < count; ++i)
    wanted[size_t(i)] = part(input_grad, i, count, program.name().c_str(), "input_grad").template cast<bool>();
  double work = 0;
  for (const Value<T>& input : call.inputs) work += program.graph().work_per_step() * double(input.batch.tokens());
  std::shared_ptr<Tape<T>> tape;
  with_memory(call, program, [&] {
    read_whole(program.versions(), [&] {
      run_native(work, [&](Stop* stop) {
        tape = program.record(call.input(stop),
                              {time_major, training, wanted.get(), seed, memory_budget.value_or(size_t(-1)), finishes});
      });
    });
  });
  return {tape};
}

// The memory of a tape that has not been closed: as long as it is held, what lies there may be read, whatever Python
// code runs meanwhile, a finaliser that closes the tape among it.
template <class T>
auto open_memory(const Tape<T>& tape) {
  check(!tape.closed(), tape.program().name().c_str(), "the tape is closed; record again");
  return tape.memory();
}

// Pairs of parameters and their flat gradient; all must be those of layers of the program.
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
                   bool commits) {
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
    const py::array a = floats<T>(given, name, label.c_str());
    check_shape(a, shape_of_value(tape.output(i), tape.time_major()), name, label.c_str());
    dy_rows[size_t(i)] = sequence_of<const T>(a, tape.time_major());
    kept.push_back(a);
  }
  const std::vector<ParameterGradient<T>> more = read_more(program, pairs, kept);
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
                  more, commits);
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

// What a node's recurrent stack did, [layer, direction]: (h (N, T, size), what the cell kept (N, T, values * H), c (N,
// T, H) or None), zeros past the lengths; no such stack: an empty list.
template <class T>
py::list tape_activity(Tape<T>& tape, size_t node) {
  py::list list;
  const typename Tape<T>::Use use(tape);
  const auto memory = open_memory(tape);
  check(node < tape.program().graph().nodes().size(), tape.program().name().c_str(), "no node ", node);
  const RecurrentPart<T> part = tape.recurrent(node);
  if (!part.tape) return list;
  const RecurrentSpec& spec = *part.spec;
  const CellInfo& cell = *kernels<T>().cells[spec.cell]->info;
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
    check(cpu_device<T>().read_tape(spec, *part.tape, size_t(i), to), tape.program().name().c_str(),
          "got a tape within a memory budget, expected one that holds all steps; record without memory_budget");
    list.append(py::make_tuple(std::move(h), std::move(saved), std::move(c)));
  }
  return list;
}

// [node]: (layers * directions, N, T) of a recurrent one, else None.
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

// Arrays that the caller gave for the outputs. An input that lies where an output will be written is copied before.
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
    check(a.ptr() == given.ptr() && a.writeable(), name, label, " must be writable and contiguous along its last axis");
    check(is_spread_out(a), name, label,
          " has elements that lie in one place, as a broadcast array; give a copy of it");
    for (ptrdiff_t k = 0; k < i; ++k)
      check(!share_memory(a, py::reinterpret_borrow<py::array>(y.arrays[size_t(k)])), name, label, " and out[", k,
            "] share memory, expected arrays apart from each other; give a copy of one");
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
          " steps, expected as many of each");
  check_tokens(call, program);
  for (ptrdiff_t i = 0; i < inputs; ++i) read_reset(call, program, i, reset, false);
  std::unique_ptr<Arena> scratch = program.scratch().take();
  const Value<T>* values = program.graph().plan(call.inputs.data(), *scratch);
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

// A property or method of a handle that asks its object.
#define RECURRA_ASK(Handle, expression) \
  [](const Handle& self) { return self.visit([](const auto& object) { return expression; }); }

void register_programs(py::module_& m) {
  py::class_<ProgramHandle> type(m, "Program");
  refuse_copies(type);
  type.def(py::init(&make_program), py::arg("name"), py::arg("inputs"), py::arg("nodes"), py::arg("outputs"))
      .def_property_readonly("dtype", [](const ProgramHandle& self) { return self.dtype(); })
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
             const py::object& state, bool time_major, bool training, const py::object& input_grad, uint64_t seed,
             std::optional<size_t> memory_budget, bool finishes) {
            return self.visit([&](const auto& p) {
              return record(*p, x, lengths, reset, state, time_major, training, input_grad, seed, memory_budget,
                            finishes);
            });
          },
          py::arg("x"), py::arg("lengths") = py::none(), py::arg("reset") = py::none(), py::arg("state") = py::none(),
          py::arg("time_major") = false, py::arg("training") = true, py::arg("input_grad") = true, py::arg("seed") = 0,
          py::arg("memory_budget") = py::none(), py::arg("finishes") = true)
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
  py::class_<TapeHandle> type(m, "Tape");
  refuse_copies(type);
  type.def_property_readonly("y", RECURRA_ASK(TapeHandle, tape_output(*object)))
      .def_property_readonly("state", RECURRA_ASK(TapeHandle, tape_state(*object)))
      .def_property_readonly("nbytes", RECURRA_ASK(TapeHandle, object->bytes()))
      .def_property_readonly("closed", RECURRA_ASK(TapeHandle, object->closed() || object->used()))
      .def(
          "backward",
          [](const TapeHandle& self, const py::object& dy, const py::object& dstate, const py::sequence& more,
             bool commits) {
            return self.visit([&](const auto& tape) { return backward(*tape, dy, dstate, more, commits); });
          },
          py::arg("dy"), py::arg("dstate") = py::none(), py::arg("more") = py::tuple(), py::arg("commits") = true)
      .def(
          "activity",
          [](const TapeHandle& self, size_t node) {
            return self.visit([&](const auto& tape) { return tape_activity(*tape, node); });
          },
          py::arg("node"))
      .def("keep_gradient_norms",
           [](const TapeHandle& self) { self.visit([](const auto& tape) { keep_gradient_norms(*tape); }); })
      .def_property_readonly("gradient_norms", RECURRA_ASK(TapeHandle, tape_gradient_norms(*object)))
      .def("close", [](const TapeHandle& self) { self.visit([](const auto& tape) { tape->close(); }); });
}

// Python code that moves several streams on, all or none, for one thread at a time. What it holds and what it undoes
// does not depend on bytecodes of Python's, between any of which an exception may come.
class Together {
 public:
  Together() = default;
  Together(std::string name, std::vector<StreamHandle> list, std::vector<ParametersHandle> weights)
      : owner_(std::move(name)),
        streams_(std::move(list)),
        weights_(std::move(weights)),
        versions_(versions_of<const Version>(weights_)),
        moves_(streams_.size()) {}

  // As a handle's: an object made by __new__ alone is an empty one.
  static void* operator new(size_t size) { return new (::operator new(size)) Together(); }
  static void* operator new(size_t, void* place) { return place; }
  static void operator delete(void* place) { ::operator delete(place); }

  py::object run(const py::function& f, const py::args& args) {
    struct End {
      Turn& turn;
      ~End() { turn.end(); }
    };
    const Turn::Answer answer = turn_.take();
    check(answer != Turn::kInUse, owner_.c_str(),
          "the stream is in use by a call that is under way; give each thread a stream of its own");
    const End end = {turn_};
    if (answer == Turn::kAbandoned) undo();  // in a child, what a thread of the parent had begun
    for (size_t i = 0; i < streams_.size(); ++i)
      moves_[i] = streams_[i].visit([](const auto& stream) { return stream->moves(); });
    py::object result;
    bool again = false;
    try {
      read_by_user(versions_, owner_, [&] {
        if (std::exchange(again, true)) undo();
        result = f(*args);
      });
    } catch (...) {
      undo();
      throw;
    }
    return result;
  }

 private:
  void undo() {
    for (size_t i = 0; i < streams_.size(); ++i)
      streams_[i].visit([&](const auto& stream) { stream->undo(moves_[i]); });
  }

  const std::string owner_;
  const std::vector<StreamHandle> streams_;
  const std::vector<ParametersHandle> weights_;
  const std::vector<const Version*> versions_;
  std::vector<uint64_t> moves_;  // of each before
  Turn turn_;
};

void register_streams(py::module_& m) {
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
  py::class_<Together> together(m, "Together");
  refuse_copies(together);
  together
      .def(py::init<std::string, std::vector<StreamHandle>, std::vector<ParametersHandle>>(), py::arg("owner"),
           py::arg("streams"), py::arg("weights"))
      .def("__call__", &Together::run, py::arg("function"));
}

}  // namespace

void register_program(py::module_& m) {
  register_programs(m);
  register_tapes(m);
  register_streams(m);
}

}  // namespace recurra::bindings
