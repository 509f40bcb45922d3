// The checked arguments of a loss.
#pragma once
#include "bindings/arrays.h"
#include "device/device.h"

namespace recurra::bindings {

// Predictions (N, T, F) or (N, F), with lengths, weights and the gradient's array.
template <class T>
struct LossCall {
  py::array predictions = no_array(), lengths_array = no_array(), weights_array = no_array();
  py::object gradient = py::none();
  LossBatch batch = {};
  ptrdiff_t features = 0;
  Sequence<T> gradient_rows = {};

  // Weights are float64, (N,) or (N, T), or none.
  LossCall(const char* name, const py::object& object, const py::object& lengths, const py::object& weights,
           bool gradient_wanted) {
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
    if (!weights.is_none()) {
      // A copy: labels of weight 0 are not checked, so weights must not change after the check.
      weights_array = py::array_t<double, kPrivate>(floats<double>(weights, name, "weights"));
      const bool each_step = n == 3 && weights_array.ndim() == 2;
      if (each_step)
        check_shape(weights_array, {batch.rows, batch.steps}, name, "weights");
      else
        check_shape(weights_array, {batch.rows}, name, "weights");
      constexpr ptrdiff_t kItem = sizeof(double);
      batch.weights = {static_cast<const double*>(weights_array.data()), weights_array.strides(0) / kItem,
                       each_step ? weights_array.strides(1) / kItem : 0};
    }
    if (gradient_wanted) {
      py::array_t<T> made(std::vector<ptrdiff_t>(predictions.shape(), predictions.shape() + n));
      gradient_rows = sequence_of<T>(made);
      gradient = std::move(made);
    }
  }

  const Device<T>& device() const { return cpu_devices().of<T>(); }
  Sequence<const T> rows() const { return sequence_of<const T>(predictions); }

  // Runs f(stop), which takes about `operations` per prediction.
  template <class F>
  void run(const F& f, double operations = 20) {
    run_native(double(batch.tokens()) * double(features) * operations, [&](Stop* stop) {
      batch.stop = stop;
      f(stop);
      if (stop && stop->requested()) throw Interrupted();
    });
  }
  // (sum, gradient), where f() computes the loss and returns its sum.
  template <class F>
  py::tuple result(const F& f) {
    double sum = 0;
    run([&](Stop*) { sum = f(); });
    return py::make_tuple(sum, gradient);
  }
};

template <class F>
auto by_dtype(const char* name, const py::object& predictions, const F& f) {
  const py::array a = as_array(predictions, name, "predictions");
  if (py::isinstance<py::array_t<float>>(a)) return f(static_cast<float*>(nullptr));
  if (py::isinstance<py::array_t<double>>(a)) return f(static_cast<double*>(nullptr));
  throw TypeMismatch(name, "predictions have dtype " + dtype_text(a) + ", expected float32 or float64");
}

}  // namespace recurra::bindings
