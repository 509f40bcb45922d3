#include <pybind11/stl.h>

#include <cmath>
#include <numeric>
#include <optional>

#include "bindings/loss_call.h"
#include "bindings/module.h"

namespace recurra::bindings {
namespace {

typedef const py::object& Object;

py::tuple cross_entropy(Object logits, Object targets, Object lengths, Object weights, bool gradient,
                        Object class_weights, double smoothing, std::optional<int64_t> ignored) {
  constexpr const char* kName = "softmax_cross_entropy";
  return by_dtype(kName, logits, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> T;
    LossCall<T> call(kName, logits, lengths, weights, gradient);
    const py::array labels = integers(targets, kName, "targets");
    const bool flat = call.predictions.ndim() == 2;
    if (flat)
      check_shape(labels, {call.batch.rows}, kName, "targets");
    else
      check_shape(labels, {call.batch.rows, call.batch.steps}, kName, "targets");
    const Sequence<const int64_t> rows = {static_cast<const int64_t*>(labels.data()), call.batch.steps, 1};
    ClassWeights<T> classes = {nullptr, T(call.features), T(smoothing)};
    py::array kept = no_array();
    if (!class_weights.is_none()) {
      kept = floats<T>(class_weights, kName, "class_weights");
      check_shape(kept, {call.features}, kName, "class_weights");
      classes.weights = static_cast<const T*>(kept.data());
      classes.sum = std::accumulate(classes.weights, classes.weights + call.features, T(0));
    }
    const bool plain = !classes.weights && smoothing == 0;
    const LabelOptions<T> options = {plain ? nullptr : &classes, ignored ? &*ignored : nullptr};
    for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
      for (ptrdiff_t s = 0; s < call.batch.length(r); ++s)
        check((*rows.at(r, s) >= 0 && *rows.at(r, s) < call.features) || !options.counts(*rows.at(r, s)) ||
                  call.batch.weight(r, s) == 0,
              kName, "targets hold ", *rows.at(r, s), " in row ", r, " at step ", s, ", expected 0 to ",
              call.features - 1, ", one of the ", call.features, " classes");
    return call.result([&] {
      return call.device().label_loss({&call.batch, call.features, call.rows(), rows, options, call.gradient_rows});
    });
  });
}

// A loss with numeric targets of `width` features; 0: as many as the predictions.
py::tuple with_targets(const char* name, Object predictions, Object targets, Object lengths, Object weights,
                       bool gradient, const LossOptions& options, ptrdiff_t width = 0) {
  return by_dtype(name, predictions, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> T;
    LossCall<T> call(name, predictions, lengths, weights, gradient);
    const py::array wanted = floats<T>(targets, name, "targets");
    std::vector<int64_t> shape(call.predictions.shape(), call.predictions.shape() + call.predictions.ndim());
    if (width) shape.back() = width;
    check_shape(wanted, shape, name, "targets");
    const StepLoss<T> loss = {options,           &call.batch, shape.back(), call.rows(), sequence_of<const T>(wanted),
                              call.gradient_rows};
    return call.result([&] { return call.device().step_loss(loss); });
  });
}

ptrdiff_t last_axis(const py::object& object, const char* name) {
  const py::array a = as_array(object, name, "predictions");
  check(a.ndim() > 0, name, "predictions have shape ", shape_of{a}, ", expected (N, T, F) or (N, F)");
  return a.shape(a.ndim() - 1);
}

// Number of targets, when each takes `each` predictions.
ptrdiff_t targets_of(const py::object& predictions, ptrdiff_t each, const char* name) {
  const ptrdiff_t width = last_axis(predictions, name);
  check(each > 0 && width > 0 && width % each == 0, name, "got ", width, " predictions a step, expected a multiple of ",
        each);
  return width / each;
}

py::tuple quantiles(Object predictions, Object targets, Object lengths, Object weights, bool gradient,
                    const std::vector<double>& quantiles) {
  constexpr const char* kName = "quantile_loss";
  return with_targets(kName, predictions, targets, lengths, weights, gradient, {LossKind::kQuantile, 0, &quantiles},
                      targets_of(predictions, ptrdiff_t(quantiles.size()), kName));
}

py::tuple gaussian(Object predictions, Object targets, Object lengths, Object weights, bool gradient, double eps) {
  constexpr const char* kName = "gaussian_nll";
  check(eps > 0, kName, "got eps=", eps, ", expected more than 0");
  return with_targets(kName, predictions, targets, lengths, weights, gradient, {LossKind::kGaussian, eps},
                      targets_of(predictions, 2, kName));
}

py::tuple mixture(Object predictions, Object targets, Object lengths, Object weights, bool gradient,
                  ptrdiff_t components, ptrdiff_t features, bool correlated, bool binary, double eps) {
  constexpr const char* kName = "mixture_density";
  constexpr ptrdiff_t kMost = 1 << 24;
  check(components >= 1 && components < kMost && features >= 1 && features < kMost, kName, "got ", components,
        " components of ", features, " features, expected 1 to ", kMost - 1, " of each");
  check(!correlated || features == 2, kName, "got correlated components of ", features, " features, expected 2");
  check(eps > 0 && eps < 1, kName, "got eps=", eps, ", expected more than 0 and less than 1");
  const Mixture mixture = {components, features, correlated, binary, eps};
  check(last_axis(predictions, kName) == mixture.predictions(), kName, "got ", last_axis(predictions, kName),
        " predictions a step, expected ", mixture.predictions());
  return with_targets(kName, predictions, targets, lengths, weights, gradient,
                      {LossKind::kMixture, 0, nullptr, &mixture}, mixture.targets());
}

// Refuses actions that are no index of a prediction, where they count.
template <class T>
void check_actions(const char* name, Object predictions, const py::array& targets, Object lengths, Object weights,
                   const Policy& policy) {
  const LossCall<T> call(name, predictions, lengths, weights, false);
  std::vector<int64_t> shape(call.predictions.shape(), call.predictions.shape() + call.predictions.ndim());
  shape.back() = policy.targets();
  check_shape(targets, shape, name, "targets");
  const Sequence<const T> rows = sequence_of<const T>(targets);
  for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
    for (ptrdiff_t s = 0; s < call.batch.length(r); ++s) {
      const T action = *rows.at(r, s);
      check(call.batch.weight(r, s) == 0 ||
                (action >= 0 && action < T(policy.predictions) && action == std::floor(action)),
            name, "targets hold the action ", action, " in row ", r, " at step ", s, ", expected 0 to ",
            policy.predictions - 1, ", one of the ", policy.predictions, " actions");
    }
}

py::tuple policy(Object predictions, Object targets, Object lengths, Object weights, bool gradient, bool gaussian,
                 std::optional<double> clip, double entropy, double eps) {
  constexpr const char* kName = "policy_loss";
  const ptrdiff_t width = last_axis(predictions, kName);
  check(width >= 1 && (!gaussian || width % 2 == 0), kName, "got ", width,
        " predictions a step, expected at least one, and an even number for a Gaussian policy");
  check(!clip || (*clip > 0 && *clip < 1), kName, "got clip=", clip.value_or(0), ", expected more than 0, less than 1");
  check(eps > 0, kName, "got eps=", eps, ", expected more than 0");
  const Policy policy = {width, gaussian, clip.has_value(), clip.value_or(0), entropy, eps};
  return by_dtype(kName, predictions, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> T;
    // A copy: an action is an index, so it must not change after the check.
    const py::array_t<T> kept = py::array_t<T, kPrivate>(floats<T>(targets, kName, "targets"));
    if (!gaussian) check_actions<T>(kName, predictions, kept, lengths, weights, policy);
    return with_targets(kName, predictions, kept, lengths, weights, gradient,
                        {LossKind::kPolicy, 0, nullptr, nullptr, &policy}, policy.targets());
  });
}

py::tuple value(Object predictions, Object targets, Object lengths, Object weights, bool gradient, double clip) {
  constexpr const char* kName = "value_loss";
  check(clip > 0, kName, "got clip=", clip, ", expected more than 0");
  return with_targets(kName, predictions, targets, lengths, weights, gradient, {LossKind::kValue, clip},
                      2 * last_axis(predictions, kName));
}

}  // namespace

#define RECURRA_LOSS(name, kind)                                                                        \
  m.def(                                                                                                \
      #name,                                                                                            \
      [](Object predictions, Object targets, Object lengths, Object weights, bool gradient) {           \
        return with_targets(#name, predictions, targets, lengths, weights, gradient, {LossKind::kind}); \
      },                                                                                                \
      py::arg("predictions"), py::arg("targets"), py::arg("lengths"), py::arg("weights"), py::arg("gradient"))

void register_losses(py::module_& m) {
  m.def("softmax_cross_entropy", &cross_entropy, py::arg("logits"), py::arg("targets"), py::arg("lengths"),
        py::arg("weights"), py::arg("gradient"), py::arg("class_weights") = py::none(), py::arg("smoothing") = 0.0,
        py::arg("ignored") = py::none());
  RECURRA_LOSS(binary_cross_entropy, kBinaryCrossEntropy);
  RECURRA_LOSS(mean_squared_error, kSquaredError);
  RECURRA_LOSS(absolute_error, kAbsoluteError);
  m.def(
      "huber",
      [](Object predictions, Object targets, Object lengths, Object weights, bool gradient, double delta) {
        return with_targets("huber", predictions, targets, lengths, weights, gradient, {LossKind::kHuber, delta});
      },
      py::arg("predictions"), py::arg("targets"), py::arg("lengths"), py::arg("weights"), py::arg("gradient"),
      py::arg("delta"));
  m.def("quantile_loss", &quantiles, py::arg("predictions"), py::arg("targets"), py::arg("lengths"), py::arg("weights"),
        py::arg("gradient"), py::arg("quantiles"));
  m.def("gaussian_nll", &gaussian, py::arg("predictions"), py::arg("targets"), py::arg("lengths"), py::arg("weights"),
        py::arg("gradient"), py::arg("eps"));
  m.def("mixture_density", &mixture, py::arg("predictions"), py::arg("targets"), py::arg("lengths"), py::arg("weights"),
        py::arg("gradient"), py::arg("components"), py::arg("features"), py::arg("correlated"), py::arg("binary"),
        py::arg("eps"));
  m.def("policy_loss", &policy, py::arg("predictions"), py::arg("targets"), py::arg("lengths"), py::arg("weights"),
        py::arg("gradient"), py::arg("gaussian"), py::arg("clip"), py::arg("entropy"), py::arg("eps"));
  m.def("value_loss", &value, py::arg("predictions"), py::arg("targets"), py::arg("lengths"), py::arg("weights"),
        py::arg("gradient"), py::arg("clip"));
}

}  // namespace recurra::bindings
