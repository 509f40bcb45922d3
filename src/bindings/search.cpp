#include "search/search.h"

#include <pybind11/stl.h>

#include "bindings/conversion.h"
#include "bindings/handles.h"
#include "bindings/module.h"
#include "bindings/weights.h"
#include "layers/attending_layer.h"
#include "platform/tasks.h"

namespace recurra::bindings {
namespace {

constexpr const char* kName = "search";

// The memory that a layer attends to, (rows, steps, features), and its lengths; keeps the arrays alive.
template <class T>
struct Memory {
  py::array x;
  py::object lengths;
  OtherInput<T> input;

  Memory(const py::object& object, const py::object& valid, ptrdiff_t rows, ptrdiff_t features, const char* name)
      : x(numbers<T>(object, name, "memory", true)) {
    check(x.ndim() == 3 && x.shape(0) == rows && x.shape(2) == features, name, "memory has shape ", shape_of{x},
          ", expected (", rows, ", steps, ", features, ")");
    lengths = checked_lengths(valid, rows, x.shape(1), name);
    const auto* values =
        lengths.is_none() ? nullptr : static_cast<const int64_t*>(py::reinterpret_borrow<py::array>(lengths).data());
    input = {{rows, x.shape(1), values, nullptr, 0, 0}, x.shape(2), sequence_of<const T>(x)};
    if (needs_conversion<T>(object))
      check_range(object, sequence_of<const T>(x), input.batch, features, false, name, "memory");
  }
};

// State arrays (count, N, size), or None for zeros, one for each state, as rows.
template <class T>
std::vector<T> state_rows(const std::vector<StateSpec>& specs, const std::vector<py::object>& arrays, ptrdiff_t rows,
                          const char* name) {
  check(arrays.size() == specs.size(), name, "the state has ", arrays.size(), " arrays, expected ", specs.size());
  ptrdiff_t size = 0, offset = 0;
  for (const StateSpec& spec : specs) size += spec.count * spec.size;
  std::vector<T> to(size_t(rows * size), T(0));
  for (size_t i = 0; i < arrays.size(); ++i) {
    const StateSpec& spec = specs[i];
    if (!arrays[i].is_none()) {
      const std::string label = std::string("state ") + spec.name;
      const py::array a = numbers<T>(arrays[i], name, label.c_str());
      check_shape(a, {spec.count, rows, spec.size}, name, label.c_str());
      const Sequence<const T> from = sequence_of<const T>(a);  // (count, row)
      for (ptrdiff_t r = 0; r < rows; ++r)
        for (ptrdiff_t k = 0; k < spec.count; ++k)
          std::copy_n(from.at(k, r), spec.size, to.data() + r * size + offset + k * spec.size);
    }
    offset += spec.count * spec.size;
  }
  return to;
}

// Hypotheses as arrays (row, rank, step), 0 past their lengths; rows with fewer than `best` have lengths of 0.
template <class T>
py::tuple result_arrays(const std::vector<std::vector<Hypothesis<T>>>& found, ptrdiff_t best, ptrdiff_t memory_steps,
                        bool has_memory) {
  const auto rows = ptrdiff_t(found.size());
  ptrdiff_t steps = 0;
  for (const auto& row : found)
    for (const Hypothesis<T>& h : row) steps = std::max(steps, ptrdiff_t(h.tokens.size()));
  py::array tokens = new_array<int64_t>({rows, best, steps}), lengths = new_array<int64_t>({rows, best}),
            scores = new_array<double>({rows, best}), log_probs = new_array<T>({rows, best, steps});
  py::object weights = py::none();
  T* weight = nullptr;
  if (has_memory) {
    py::array_t<T> made({rows, best, steps, memory_steps});
    weight = made.mutable_data();
    std::fill_n(weight, made.size(), T(0));
    weights = std::move(made);
  }
  auto* token = static_cast<int64_t*>(tokens.mutable_data());
  auto* length = static_cast<int64_t*>(lengths.mutable_data());
  auto* score = static_cast<double*>(scores.mutable_data());
  T* log_prob = static_cast<T*>(log_probs.mutable_data());
  std::fill_n(token, tokens.size(), int64_t(0));
  std::fill_n(length, lengths.size(), int64_t(0));
  std::fill_n(score, scores.size(), -std::numeric_limits<double>::infinity());
  std::fill_n(log_prob, log_probs.size(), T(0));
  for (ptrdiff_t r = 0; r < rows; ++r)
    for (size_t k = 0; k < found[size_t(r)].size(); ++k) {
      const Hypothesis<T>& h = found[size_t(r)][k];
      const ptrdiff_t i = r * best + ptrdiff_t(k);
      length[i] = int64_t(h.tokens.size());
      score[i] = h.score;
      std::copy(h.tokens.begin(), h.tokens.end(), token + i * steps);
      std::copy(h.log_probs.begin(), h.log_probs.end(), log_prob + i * steps);
      if (weight) std::copy(h.weights.begin(), h.weights.end(), weight + i * steps * memory_steps);
    }
  return py::make_tuple(std::move(tokens), std::move(lengths), std::move(scores), std::move(log_probs),
                        std::move(weights));
}

template <class T>
py::tuple run_search(const std::vector<const LayerHandle*>& handles, ptrdiff_t rows,
                     const std::vector<py::object>& state, const py::object& memory, const py::object& memory_lengths,
                     const SearchOptions& options) {
  std::vector<std::shared_ptr<Layer<T>>> layers;
  for (const LayerHandle* handle : handles) {
    const auto* same = handle->template get<T>();
    check(same != nullptr, kName, "the layers are of ", handles.front()->dtype(), " and ", handle->dtype(),
          ", expected one dtype for all");
    layers.push_back(*same);
  }
  const Search<T> search(std::move(layers));
  search.check_call(rows, !memory.is_none(), options);
  std::unique_ptr<Memory<T>> looked_at;
  if (!memory.is_none())
    looked_at = std::make_unique<Memory<T>>(memory, memory_lengths, rows, search.memory_size(), kName);
  const std::vector<T> from = state_rows<T>(search.states(), state, rows, kName);
  std::vector<std::vector<Hypothesis<T>>> found;
  const double work = search.work(rows, looked_at ? looked_at->input.batch : Batch{}, options);
  read_whole(search.versions(), [&] {
    run_native(work, [&](Stop* stop) {
      found = search.run(rows, {from.data(), search.state_size()}, looked_at ? &looked_at->input : nullptr, options,
                         threads_for(work, kReleaseWork), stop);
      if (stop && stop->requested()) throw Interrupted();
    });
  });
  return result_arrays(found, options.best, looked_at ? looked_at->input.batch.steps : 0, looked_at != nullptr);
}

// The attention weights of a layer's queries: (N, Tq, Tm).
template <class T>
py::array attention_weights(AttendingLayer<T>& layer, const char* name, const py::object& x, const py::object& memory,
                            const py::object& lengths, const py::object& memory_lengths,
                            const std::vector<py::object>& state) {
  const py::array queries = numbers<T>(x, name, "query", true);
  check(queries.ndim() == 3 && queries.shape(2) == layer.input_size(), name, "query has shape ", shape_of{queries},
        ", expected (N, T, ", layer.input_size(), ")");
  const ptrdiff_t rows = queries.shape(0), steps = queries.shape(1);
  Batch batch = {rows, steps, nullptr, nullptr, 0, 0};
  const py::object valid = checked_lengths(lengths, rows, steps, name);
  if (!valid.is_none()) batch.lengths = static_cast<const int64_t*>(py::reinterpret_borrow<py::array>(valid).data());
  if (needs_conversion<T>(x))
    check_range(x, sequence_of<const T>(queries), batch, queries.shape(2), false, name, "query");
  const Memory<T> looked_at(memory, memory_lengths, rows, layer.memory_size(), name);
  const std::vector<T> from = state_rows<T>(layer.states(), state, rows, name);
  py::array weights = new_array<T>({rows, steps, looked_at.input.batch.steps});
  std::fill_n(static_cast<T*>(weights.mutable_data()), weights.size(), T(0));
  recurra::Memory scratch(layer.devices());
  Arena& arena = scratch.device;
  const ptrdiff_t width = layer.output_size(), size = layer.state_size();
  const Sequence<T> y = {arena.take<T>(size_t(rows * steps * width)), steps * width, width};
  const double work = layer.work(batch, &looked_at.input.batch);
  const auto attend = [&](Stop* stop) {
    layer.attend({layer.devices(), arena, scratch.host, threads_for(work, kReleaseWork), stop, false, {}},
                 {batch,
                  layer.input_size(),
                  {sequence_of<const T>(queries), {}},
                  y,
                  {from.data(), size},
                  {arena.take<T>(size_t(rows * size)), size},
                  &looked_at.input,
                  1},
                 sequence_of<T>(weights));
    if (stop && stop->requested()) throw Interrupted();
  };
  read_checked(layer.versions(), [&] { run_native(work, attend); });
  return weights;
}

}  // namespace

void register_search(py::module_& m) {
  m.def(
      "search",
      [](const std::vector<const LayerHandle*>& layers, ptrdiff_t rows, const std::vector<py::object>& state,
         const py::object& memory, const py::object& memory_lengths, int64_t start, int64_t end, ptrdiff_t max_steps,
         ptrdiff_t beam_size, ptrdiff_t n_best, double length_penalty) {
        check(!layers.empty(), kName, "got no layers, expected at least one");
        for (const LayerHandle* layer : layers)
          check(layer != nullptr, kName, "got None as a layer, expected a layer of the core");
        return layers.front()->visit([&](const auto& first) {
          typedef RECURRA_TYPE_OF(first) T;
          return run_search<T>(layers, rows, state, memory, memory_lengths,
                               {start, end, max_steps, beam_size, n_best, length_penalty});
        });
      },
      py::arg("layers"), py::arg("rows"), py::arg("state"), py::arg("memory"), py::arg("memory_lengths"),
      py::arg("start"), py::arg("end"), py::arg("max_steps"), py::arg("beam_size"), py::arg("n_best"),
      py::arg("length_penalty"));
  m.def(
      "attention_weights",
      [](const LayerHandle& layer, const std::string& name, const py::object& query, const py::object& memory,
         const py::object& lengths, const py::object& memory_lengths, const std::vector<py::object>& state) {
        return layer.visit([&](const auto& any) {
          typedef RECURRA_TYPE_OF(any) T;
          auto* attending = dynamic_cast<AttendingLayer<T>*>(any.get());
          check(attending != nullptr, name.c_str(),
                "got a layer without attention weights, expected a layer with attention");
          return attention_weights(*attending, name.c_str(), query, memory, lengths, memory_lengths, state);
        });
      },
      py::arg("layer"), py::arg("name"), py::arg("query"), py::arg("memory"), py::arg("lengths"),
      py::arg("memory_lengths"), py::arg("state"));
}

}  // namespace recurra::bindings
