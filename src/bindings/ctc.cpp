#include "bindings/loss_call.h"
#include "bindings/module.h"
#include "losses/ctc_decode.h"

namespace recurra::bindings {
namespace {

template <class T>
void check_symbols(const LossCall<T>& call, ptrdiff_t blank, const char* name) {
  check(call.predictions.ndim() == 3, name, "logits have shape ", shape_of{call.predictions}, ", expected (N, T, C)");
  check(blank >= 0 && blank < call.features, name, "got blank=", blank, ", expected 0 to ", call.features - 1);
}

py::tuple ctc_loss(const py::object& logits, const py::object& targets, const py::object& lengths,
                   const py::object& weights, bool gradient, ptrdiff_t blank) {
  constexpr const char* kName = "ctc";
  return by_dtype(kName, logits, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> T;
    LossCall<T> call(kName, logits, lengths, weights, gradient);
    check_symbols(call, blank, kName);
    check(call.weights_array.ptr() == nullptr || call.weights_array.ndim() == 1, kName,
          "weights have two axes, expected one for each row");
    const py::array labels = integers(targets, kName, "targets");
    check(labels.ndim() == 2 && labels.shape(0) == call.batch.rows, kName, "targets have shape ", shape_of{labels},
          ", expected (", call.batch.rows, ", S)");
    const Targets rows = {static_cast<const int64_t*>(labels.data()), labels.shape(1)};
    for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
      for (ptrdiff_t k = 0; k < rows.labels(r); ++k)
        check((rows.row(r)[k] < call.features && rows.row(r)[k] != blank) || call.batch.weight(r, 0) == 0, kName,
              "targets hold ", rows.row(r)[k], " in row ", r, ", expected 0 to ", call.features - 1, " and not ", blank,
              ", the blank");
    py::array_t<bool> feasible(call.batch.rows);
    bool* possible = feasible.mutable_data();
    double sum = 0;
    call.run([&](Stop*) {
      sum = call.device().ctc({&call.batch, call.features, blank, call.rows(), rows, call.gradient_rows, possible});
    });
    return py::make_tuple(sum, call.gradient, std::move(feasible));
  });
}

py::tuple as_pair(const CtcHypothesis& hypothesis) {
  py::array labels = new_array<int64_t>({int64_t(hypothesis.labels.size())});
  std::copy(hypothesis.labels.begin(), hypothesis.labels.end(), static_cast<int64_t*>(labels.mutable_data()));
  return py::make_tuple(labels, hypothesis.log_probability);
}

py::list greedy(const py::object& logits, const py::object& lengths, ptrdiff_t blank) {
  constexpr const char* kName = "ctc_greedy";
  return by_dtype(kName, logits, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> T;
    LossCall<T> call(kName, logits, lengths, py::none(), false);
    check_symbols(call, blank, kName);
    std::vector<CtcHypothesis> found;
    call.run(
        [&](Stop* stop) { found = ctc_greedy<T>(call.device(), call.batch, call.features, blank, call.rows(), stop); });
    py::list rows;
    for (const CtcHypothesis& one : found) rows.append(as_pair(one));
    return rows;
  });
}

py::list beam_search(const py::object& logits, const py::object& lengths, ptrdiff_t blank, ptrdiff_t beam_size,
                     ptrdiff_t best) {
  constexpr const char* kName = "ctc_beam_search";
  check(beam_size >= 1 && best >= 1, kName, "got beam_size=", beam_size, " and best=", best, ", expected 1 or more");
  return by_dtype(kName, logits, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> T;
    LossCall<T> call(kName, logits, lengths, py::none(), false);
    check_symbols(call, blank, kName);
    std::vector<std::vector<CtcHypothesis>> found;
    call.run(
        [&](Stop* stop) {
          found =
              ctc_beam_search<T>(call.device(), call.batch, call.features, blank, beam_size, best, call.rows(), stop);
        },
        20 + double(beam_size));
    py::list rows;
    for (const auto& row : found) {
      py::list hypotheses;
      for (const CtcHypothesis& one : row) hypotheses.append(as_pair(one));
      rows.append(std::move(hypotheses));
    }
    return rows;
  });
}

}  // namespace

void register_ctc(py::module_& m) {
  m.def("ctc", &ctc_loss, py::arg("logits"), py::arg("targets"), py::arg("lengths"), py::arg("weights"),
        py::arg("gradient"), py::arg("blank"));
  m.def("ctc_greedy", &greedy, py::arg("logits"), py::arg("lengths"), py::arg("blank"));
  m.def("ctc_beam_search", &beam_search, py::arg("logits"), py::arg("lengths"), py::arg("blank"), py::arg("beam_size"),
        py::arg("best"));
}

}  // namespace recurra::bindings
