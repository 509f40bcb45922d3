#include <pybind11/stl.h>

#include <optional>

#include "bindings/handles.h"
#include "bindings/loss_call.h"
#include "bindings/module.h"

namespace recurra::bindings {
namespace {

// The CRF's current scores, -infinity where `allowed`, of the same layout, is false; None allows everything.
Chain read_chain(const ParametersHandle& handle, const py::object& allowed, const char* name, ptrdiff_t tags) {
  std::vector<double> values = handle.visit([&](const auto& p) {
    check(p->size() == tags * (tags + 2), name, "scores have ", tags,
          " features, expected one for each tag of the CRF");
    const ReadLock lock(p->mutex());
    return std::vector<double>(p->values(), p->values() + p->size());
  });
  if (!allowed.is_none()) {
    const py::array given = as_array(allowed, name, "allowed");
    if (given.dtype().kind() != 'b')
      throw TypeMismatch(name, "allowed has dtype " + dtype_text(given) + ", expected bool");
    const py::array_t<bool, kPlain> mask(given);
    check_shape(mask, {int64_t(values.size())}, name, "allowed");
    for (size_t i = 0; i < values.size(); ++i)
      if (!mask.data()[i]) values[i] = -std::numeric_limits<double>::infinity();
  }
  const auto begin = values.begin(), start = begin + tags * tags, end = start + tags;
  return {tags, {begin, start}, {start, end}, {end, values.end()}};
}

template <class T>
double operations(const LossCall<T>& call) {
  return 10 * double(call.features + 8);
}

template <class T>
void check_sequences(const LossCall<T>& call, const char* name) {
  check(call.predictions.ndim() == 3, name, "scores have shape ", shape_of{call.predictions},
        ", expected (N, T, tags)");
}

// A copy of the (N, T) tags: other threads must not change them once they are checked.
template <class T>
std::vector<int64_t> checked_tags(const LossCall<T>& call, const py::object& object, std::optional<int64_t> ignored,
                                  const char* name) {
  const py::array given = integers(object, name, "targets");
  check_shape(given, {call.batch.rows, call.batch.steps}, name, "targets");
  const auto* data = static_cast<const int64_t*>(given.data());
  std::vector<int64_t> tags(data, data + call.batch.rows * call.batch.steps);
  for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
    for (ptrdiff_t s = 0; s < call.batch.length(r) && call.batch.weight(r, 0) != 0; ++s) {
      const int64_t tag = tags[size_t(r * call.batch.steps + s)];
      check((tag >= 0 && tag < call.features) || (ignored && tag == *ignored), name, "targets hold ", tag, " in row ",
            r, " at step ", s, ", expected 0 to ", call.features - 1, ", one of the ", call.features, " tags");
    }
  return tags;
}

// (sum, gradient of the scores, flat gradient of the parameters)
py::tuple loss(const py::object& scores, const py::object& targets, const py::object& lengths,
               const py::object& weights, bool gradient, const ParametersHandle& parameters, const py::object& allowed,
               std::optional<int64_t> ignored) {
  constexpr const char* kName = "crf";
  return by_dtype(kName, scores, [&](auto* type) -> py::tuple {
    typedef std::remove_pointer_t<decltype(type)> T;
    LossCall<T> call(kName, scores, lengths, weights, gradient);
    check_sequences(call, kName);
    check(call.weights_array.ptr() == nullptr || call.weights_array.ndim() == 1, kName,
          "weights have two axes, expected one for each row");
    const std::vector<int64_t> tags = checked_tags(call, targets, ignored, kName);
    const Chain chain = read_chain(parameters, allowed, kName, call.features);
    std::vector<double> sums(gradient ? size_t(chain.parameters()) : 0);
    double sum = 0;
    call.run(
        [&](Stop*) {
          sum = call.device().crf({&call.batch, &chain, call.rows(), tags.data(), ignored ? &*ignored : nullptr,
                                   call.gradient_rows, gradient ? sums.data() : nullptr});
        },
        operations(call));
    if (!gradient) return py::make_tuple(sum, py::none(), py::none());
    return parameters.visit([&](const auto& p) -> py::tuple {
      typedef RECURRA_TYPE_OF(p) P;
      py::array flat = new_array<P>({p->size()});
      std::transform(sums.begin(), sums.end(), static_cast<P*>(flat.mutable_data()), [](double x) { return P(x); });
      return py::make_tuple(sum, call.gradient, std::move(flat));
    });
  });
}

// ((N, T) tags, (N,) scores)
py::tuple viterbi(const py::object& scores, const py::object& lengths, const ParametersHandle& parameters,
                  const py::object& allowed) {
  constexpr const char* kName = "crf_viterbi";
  return by_dtype(kName, scores, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> T;
    LossCall<T> call(kName, scores, lengths, py::none(), false);
    check_sequences(call, kName);
    const Chain chain = read_chain(parameters, allowed, kName, call.features);
    py::array tags = new_array<int64_t>({call.batch.rows, call.batch.steps});
    py::array best = new_array<double>({call.batch.rows});
    auto* to = static_cast<int64_t*>(tags.mutable_data());
    auto* to_best = static_cast<double*>(best.mutable_data());
    call.run([&](Stop* stop) { call.device().crf_viterbi(call.batch, chain, call.rows(), to, to_best, stop); },
             operations(call));
    return py::make_tuple(std::move(tags), std::move(best));
  });
}

// (N, T, tags)
py::object marginals(const py::object& scores, const py::object& lengths, const ParametersHandle& parameters,
                     const py::object& allowed) {
  constexpr const char* kName = "crf_marginals";
  return by_dtype(kName, scores, [&](auto* type) -> py::object {
    typedef std::remove_pointer_t<decltype(type)> T;
    LossCall<T> call(kName, scores, lengths, py::none(), true);
    check_sequences(call, kName);
    const Chain chain = read_chain(parameters, allowed, kName, call.features);
    call.run([&](Stop* stop) { call.device().crf_marginals(call.batch, chain, call.rows(), call.gradient_rows, stop); },
             operations(call));
    return call.gradient;
  });
}

}  // namespace

void register_crf(py::module_& m) {
  m.def("crf", &loss, py::arg("scores"), py::arg("targets"), py::arg("lengths"), py::arg("weights"),
        py::arg("gradient"), py::arg("parameters"), py::arg("allowed"), py::arg("ignored"));
  m.def("crf_viterbi", &viterbi, py::arg("scores"), py::arg("lengths"), py::arg("parameters"), py::arg("allowed"));
  m.def("crf_marginals", &marginals, py::arg("scores"), py::arg("lengths"), py::arg("parameters"), py::arg("allowed"));
}

}  // namespace recurra::bindings
