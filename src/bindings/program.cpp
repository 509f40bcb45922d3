// Program for Python: built from layers, run forward, recorded.
#include "program/program.h"

#include <pybind11/stl.h>

#include <utility>

#include "bindings/call.h"
#include "bindings/module.h"
#include "bindings/outputs.h"
#include "bindings/weights.h"

namespace recurra::bindings {
namespace {

// (layer, the values it reads, the initial value of each of its states or -1; an empty list means all -1)
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

// (an array of bytes, the signature of the model)
typedef std::pair<py::array_t<uint8_t>, uint64_t> PyBlock;

TapeBlock tape_block(const PyBlock& block) {
  const auto& [array, signature] = block;
  const auto release = [](const py::object* kept) {
    const py::gil_scoped_acquire gil;
    delete kept;
  };
  const std::shared_ptr<const void> owner(new py::object(array), release);
  return {reinterpret_cast<char*>(const_cast<uint8_t*>(array.data())), size_t(array.nbytes()), signature, owner};
}

// Runs f(); a bad_alloc gets the program's name and the shape of x.
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
  std::unique_ptr<Memory> scratch = program.scratch().take();
  Value<T>* values = program.graph().plan(call.inputs.data(), scratch->host);
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
                  std::optional<size_t> memory_budget, bool finishes, int64_t first_row,
                  const std::optional<PyBlock>& block) {
  const Call<T> call = read_call(program, x, lengths, reset, state, time_major);
  const ptrdiff_t count = program.graph().inputs();
  constexpr int64_t kRows = int64_t(1) << 31;
  check(first_row >= 0 && first_row <= kRows - call.rows(), program.name().c_str(), "first_row is ", first_row,
        ", expected 0 to ", kRows - call.rows(), " for ", call.rows(), " rows");
  const auto wanted = std::make_unique<bool[]>(size_t(count));
  for (ptrdiff_t i = 0; i < count; ++i)
    wanted[size_t(i)] = part(input_grad, i, count, program.name().c_str(), "input_grad").template cast<bool>();
  double work = 0;
  for (const Value<T>& input : call.inputs) work += program.graph().work_per_step() * double(input.batch.tokens());
  const TapeBlock memory = block ? tape_block(*block) : TapeBlock{};  // with the GIL, which the call gives up
  std::shared_ptr<Tape<T>> tape;
  with_memory(call, program, [&] {
    read_whole(program.versions(), [&] {
      run_native(work, [&](Stop* stop) {
        tape = program.record(
            call.input(stop),
            {time_major, training, wanted.get(), {seed, first_row}, memory_budget.value_or(size_t(-1)), finishes},
            memory);
      });
    });
  });
  return {tape};
}

template <class T>
size_t tape_bytes(const Program<T>& program, const py::object& x, const py::object& lengths, bool reset, bool state,
                  bool time_major, bool training, std::optional<size_t> memory_budget) {
  Call<T> call = read_call(program, x, lengths, py::none(), py::none(), time_major);
  static constexpr uint8_t kReset = 0;  // that of every row and step
  for (Value<T>& input : call.inputs) {
    if (!reset || input.vector) continue;
    input.batch.reset = &kReset;
    input.batch.reset_row = input.batch.reset_step = 0;
  }
  RecordOptions options = {time_major, training};
  options.memory_budget = memory_budget.value_or(size_t(-1));
  const T some = 0;
  return program.tape_bytes({call.inputs.data(), {state ? &some : nullptr, 0}}, options);
}

template <class T>
TapeHandle open_tape(Program<T>& program, const PyBlock& block) {
  std::shared_ptr<Tape<T>> tape;
  read_whole(program.versions(), [&] { tape = program.open(tape_block(block)); });
  return {tape};
}

}  // namespace

void register_program(py::module_& m) {
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
             std::optional<size_t> memory_budget, bool finishes, int64_t first_row,
             const std::optional<PyBlock>& block) {
            return self.visit([&](const auto& p) {
              return record(*p, x, lengths, reset, state, time_major, training, input_grad, seed, memory_budget,
                            finishes, first_row, block);
            });
          },
          py::arg("x"), py::arg("lengths") = py::none(), py::arg("reset") = py::none(), py::arg("state") = py::none(),
          py::arg("time_major") = false, py::arg("training") = true, py::arg("input_grad") = true, py::arg("seed") = 0,
          py::arg("memory_budget") = py::none(), py::arg("finishes") = true, py::arg("first_row") = 0,
          py::arg("block") = py::none())
      .def(
          "tape_bytes",
          [](const ProgramHandle& self, const py::object& x, const py::object& lengths, bool reset, bool state,
             bool time_major, bool training, std::optional<size_t> memory_budget) {
            return self.visit([&](const auto& p) {
              return tape_bytes(*p, x, lengths, reset, state, time_major, training, memory_budget);
            });
          },
          py::arg("x"), py::arg("lengths"), py::arg("reset"), py::arg("state"), py::arg("time_major"),
          py::arg("training"), py::arg("memory_budget"))
      .def(
          "open_tape",
          [](const ProgramHandle& self, const py::array_t<uint8_t>& memory, uint64_t signature) {
            return self.visit([&](const auto& p) { return open_tape(*p, {memory, signature}); });
          },
          py::arg("memory").noconvert(), py::arg("signature"))
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

}  // namespace recurra::bindings
