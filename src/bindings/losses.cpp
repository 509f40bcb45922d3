#include "losses/losses.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace recurra::bindings {
namespace {

// Predictions (N, T, F) or (N, F), and what goes with them.
template <class T>
struct LossCall {
  py::array predictions = no_array(), lengths_array = no_array();
  py::object gradient = py::none();
  Batch batch = {};
  ptrdiff_t features = 0;
  Sequence<T> gradient_rows = {};

  LossCall(const char* name, const py::object& object, const py::object& lengths, bool gradient_wanted) {
    predictions = floats<T>(object, name, "predictions");
    const ptrdiff_t n = predictions.ndim();
    check(n == 2 || n == 3, name, "predictions have shape ", shape_of{predictions}, ", expected (N, T, F) or (N, F)");
    features = predictions.shape(n - 1);
    check(features >= 1, name, "predictions have shape ", shape_of{predictions}, ", expected at least one feature");
    batch.rows = predictions.shape(0);
    batch.steps = n == 3 ? predictions.shape(1) : 1;
    check(lengths.is_none() || n == 3, name, "got lengths, but predictions of shape ", shape_of{predictions},
          " have no time axis");
    const py::object checked = checked_lengths(lengths, batch.rows, batch.steps, name);
    if (!checked.is_none()) {
      lengths_array = py::reinterpret_borrow<py::array>(checked);
      batch.lengths = static_cast<const int64_t*>(lengths_array.data());
    }
    if (gradient_wanted) {
      py::array_t<T> made(std::vector<ptrdiff_t>(predictions.shape(), predictions.shape() + n));
      gradient_rows = sequence_of<T>(made);
      gradient = std::move(made);
    }
  }

  Sequence<const T> rows() const { return sequence_of<const T>(predictions); }

  template <class F>
  py::tuple run(const F& f) {
    Loss loss = {};
    run_native(double(batch.tokens()) * double(features) * 20, [&](Stop*) { loss = f(); });
    return py::make_tuple(loss.sum, loss.count, gradient);
  }
};

template <class F>
py::tuple by_dtype(const char* name, const py::object& predictions, const F& f) {
  const py::array a = as_array(predictions, name, "predictions");
  if (py::isinstance<py::array_t<float>>(a)) return f(static_cast<float*>(nullptr));
  if (py::isinstance<py::array_t<double>>(a)) return f(static_cast<double*>(nullptr));
  throw TypeMismatch(name, "predictions have dtype " + dtype_text(a) + ", expected float32 or float64");
}

py::tuple cross_entropy(const py::object& logits, const py::object& targets, const py::object& lengths, bool gradient) {
  constexpr const char* kName = "softmax_cross_entropy";
  return by_dtype(kName, logits, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> T;
    LossCall<T> call(kName, logits, lengths, gradient);
    const py::array labels = integers(targets, kName, "targets");
    const bool flat = call.predictions.ndim() == 2;
    if (flat)
      check_shape(labels, {call.batch.rows}, kName, "targets");
    else
      check_shape(labels, {call.batch.rows, call.batch.steps}, kName, "targets");
    const Sequence<const int64_t> rows = {static_cast<const int64_t*>(labels.data()), call.batch.steps, 1};
    for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
      for (ptrdiff_t s = 0; s < call.batch.length(r); ++s)
        check(*rows.at(r, s) >= 0 && *rows.at(r, s) < call.features, kName, "targets hold ", *rows.at(r, s), " in row ",
              r, " at step ", s, ", expected 0 to ", call.features - 1, ", one of the ", call.features, " classes");
    return call.run(
        [&] { return softmax_cross_entropy<T>(call.batch, call.features, call.rows(), rows, call.gradient_rows); });
  });
}

// A loss whose targets look like its predictions.
template <class F>
py::tuple like_predictions(const char* name, const py::object& predictions, const py::object& targets,
                           const py::object& lengths, bool gradient, const F& f) {
  return by_dtype(name, predictions, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> T;
    LossCall<T> call(name, predictions, lengths, gradient);
    const py::array wanted = floats<T>(targets, name, "targets");
    check_shape(wanted,
                std::vector<int64_t>(call.predictions.shape(), call.predictions.shape() + call.predictions.ndim()),
                name, "targets");
    return call.run(
        [&] { return f(call.batch, call.features, call.rows(), sequence_of<const T>(wanted), call.gradient_rows); });
  });
}

}  // namespace

void register_losses(py::module_& m) {
  m.def("softmax_cross_entropy", &cross_entropy, py::arg("logits"), py::arg("targets"), py::arg("lengths"),
        py::arg("gradient"));
  m.def(
      "binary_cross_entropy",
      [](const py::object& logits, const py::object& targets, const py::object& lengths, bool gradient) {
        return like_predictions("binary_cross_entropy", logits, targets, lengths, gradient,
                                [](const auto&... args) { return binary_cross_entropy(args...); });
      },
      py::arg("logits"), py::arg("targets"), py::arg("lengths"), py::arg("gradient"));
  m.def(
      "mean_squared_error",
      [](const py::object& predictions, const py::object& targets, const py::object& lengths, bool gradient) {
        return like_predictions("mean_squared_error", predictions, targets, lengths, gradient,
                                [](const auto&... args) { return mean_squared_error(args...); });
      },
      py::arg("predictions"), py::arg("targets"), py::arg("lengths"), py::arg("gradient"));
}

}  // namespace recurra::bindings
