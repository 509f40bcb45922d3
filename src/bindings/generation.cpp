// Generation for Python.
#include "search/generation.h"

#include <pybind11/stl.h>

#include "bindings/call.h"
#include "bindings/module.h"
#include "bindings/outputs.h"
#include "bindings/weights.h"

namespace recurra::bindings {
namespace {

constexpr const char* kName = "generate";

// A generation with the arrays that it reads.
template <class T>
struct KeptGeneration {
  Call<T> call;
  Generation<T> generation;
};
typedef Handle<KeptGeneration> GenerationHandle;

HeadOptions head_options(const py::dict& given) {
  HeadOptions options;
  const auto kind = given["kind"].cast<std::string>();
  for (const auto& [name, value] : {std::pair{"categorical", HeadKind::kCategorical},
                                    {"bernoulli", HeadKind::kBernoulli},
                                    {"gaussian", HeadKind::kGaussian},
                                    {"mixture", HeadKind::kMixture},
                                    {"value", HeadKind::kValue}})
    if (kind == name) options.kind = value;
  options.temperature = given["temperature"].cast<double>();
  options.top_k = given["top_k"].cast<ptrdiff_t>();
  options.top_p = given["top_p"].cast<double>();
  options.penalty = given["repetition_penalty"].cast<double>();
  options.suppressed = given["suppress"].cast<std::vector<int64_t>>();
  options.stops = given["stop"].cast<std::vector<int64_t>>();
  options.eps = given["eps"].cast<double>();
  if (options.kind == HeadKind::kMixture)
    options.mixture = {given["components"].cast<ptrdiff_t>(), given["features"].cast<ptrdiff_t>(),
                       given["correlated"].cast<bool>(), given["end_of_stroke"].cast<bool>(), options.eps};
  return options;
}

// feeds: for each input the output that feeds it, -1 if it is given, -2 if it is a memory.
GenerationHandle make_generation(const ProgramHandle& program, const py::object& x, const py::object& lengths,
                                 const std::vector<ptrdiff_t>& feeds, const py::object& state,
                                 const std::vector<py::dict>& heads, ptrdiff_t steps, uint64_t seed,
                                 const std::vector<int64_t>& row_ids, int64_t first_step) {
  return program.visit([&](const auto& p) -> GenerationHandle {
    typedef RECURRA_TYPE_OF(p) T;
    check(ptrdiff_t(feeds.size()) == p->graph().inputs(), kName, "got ", feeds.size(), " uses of inputs, expected ",
          p->graph().inputs());
    GenerationOptions options = {{}, {}, steps, seed, row_ids, first_step};
    for (ptrdiff_t feed : feeds) {
      check(feed >= -2 && feed < ptrdiff_t(heads.size()), kName, "got an input fed by output ", feed,
            ", which is not there");
      options.inputs.push_back({feed >= 0    ? GenerationInput::kFed
                                : feed == -1 ? GenerationInput::kGiven
                                             : GenerationInput::kMemory,
                                feed});
    }
    for (const py::dict& head : heads) options.heads.push_back(head_options(head));
    Call<T> call = read_call(*p, x, lengths, py::none(), state, false);
    // The arrays are read as long as the generation runs, while the caller may write to them.
    for (size_t i = 0; i < call.inputs.size(); ++i) {
      if (p->graph().values()[i].tokens) continue;  // copied already
      const py::array_t<T, kPrivate> copy(py::reinterpret_borrow<py::array>(call.kept[i]));
      call.inputs[i].x.features = sequence_of<const T>(copy);
      call.kept[i] = copy;
    }
    auto inputs = call.inputs;
    auto begin = call.state_rows.data ? std::move(call.state) : std::vector<T>();
    return {std::shared_ptr<KeptGeneration<T>>(
        new KeptGeneration<T>{std::move(call), {p, std::move(inputs), std::move(begin), std::move(options)}})};
  });
}

template <class T>
ptrdiff_t run(Generation<T>& generation, ptrdiff_t steps) {
  read_whole(generation.program().versions(), [&] {
    run_native(generation.work(steps), [&](Stop* stop) {
      generation.run(steps, stop);
      if (stop && stop->requested()) throw Interrupted();
    });
  });
  return generation.steps_left();
}

template <class V>
py::array array_of(const std::vector<V>& values, const std::vector<int64_t>& shape) {
  py::array made = new_array<V>(shape);
  std::copy(values.begin(), values.end(), static_cast<V*>(made.mutable_data()));
  return made;
}

// Samples, lengths, log-probabilities, weights or None, from a step on.
template <class T>
py::tuple generated(const Generation<T>& generation, ptrdiff_t from_step) {
  const Generated<T> made = generation.generated(from_step);
  const int64_t rows = generation.rows(), steps = made.steps;
  py::list samples, log_probs;
  for (const auto& output : made.outputs) {
    if (output.tokens.size() || output.vectors.empty())
      samples.append(array_of(output.tokens, {rows, steps}));
    else
      samples.append(array_of(output.vectors, {rows, steps, int64_t(output.vectors.size()) / (rows * steps)}));
    log_probs.append(array_of(output.log_probs, {rows, steps}));
  }
  py::object weights = py::none();
  if (made.memory_steps) weights = array_of(made.weights, {rows, steps, made.memory_steps});
  return py::make_tuple(std::move(samples), array_of(made.lengths, {rows}), std::move(log_probs), std::move(weights));
}

template <class T>
py::array open_rows(const Generation<T>& generation) {
  py::array_t<bool> open(generation.rows());
  for (ptrdiff_t r = 0; r < generation.rows(); ++r) open.mutable_at(r) = generation.is_open(r);
  return open;
}

}  // namespace

void register_generation(py::module_& m) {
  py::class_<GenerationHandle> type(m, "Generation");
  refuse_copies(type);
  type.def(py::init(&make_generation), py::arg("program"), py::arg("x"), py::arg("lengths"), py::arg("feeds"),
           py::arg("state"), py::arg("heads"), py::arg("steps"), py::arg("seed"), py::arg("row_ids"),
           py::arg("first_step"))
      .def(
          "run",
          [](const GenerationHandle& self, ptrdiff_t steps) {
            return self.visit([&](const auto& kept) { return run(kept->generation, steps); });
          },
          py::arg("steps"))
      .def("open_rows", RECURRA_ASK(GenerationHandle, open_rows(object->generation)))
      .def(
          "end",
          [](const GenerationHandle& self, ptrdiff_t row) {
            self.visit([&](const auto& kept) {
              check(row >= 0 && row < kept->generation.rows(), kName, "got row ", row, ", expected 0 to ",
                    kept->generation.rows() - 1);
              kept->generation.end(row);
            });
          },
          py::arg("row"))
      .def(
          "generated",
          [](const GenerationHandle& self, ptrdiff_t from_step) {
            return self.visit([&](const auto& kept) {
              check(from_step >= 0 && from_step <= kept->generation.steps_done(), kName, "got from_step ", from_step,
                    ", expected 0 to ", kept->generation.steps_done(), ", the steps that are done");
              return generated(kept->generation, from_step);
            });
          },
          py::arg("from_step") = 0)
      .def("state", [](const GenerationHandle& self) {
        return self.visit([](const auto& kept) {
          const auto state = kept->generation.state();
          return state_arrays(kept->generation.program(), kept->generation.rows(), state.data());
        });
      });
}

}  // namespace recurra::bindings
