// Losses that are sums over steps.
#include <cmath>
#include <utility>

#include "cpu/losses/mixture.h"
#include "cpu/losses/policy.h"
#include "cpu/losses/steps.h"

namespace recurra {
namespace {

// A loss of each prediction's error; `f` gives its value and its slope.
template <class T, class F>
double sum_errors(const StepLoss<T>& call, const F& f) {
  return sum_steps<T>(*call.batch, call.features, call.gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    const T* x = call.predictions.at(row, step);
    const T* y = call.targets.at(row, step);
    T* d = gradient_at(call.gradient, row, step);
    double sum = 0;
    for (ptrdiff_t k = 0; k < call.features; ++k) {
      const std::pair<double, T> term = f(x[k] - y[k]);
      sum += term.first;
      if (d) d[k] = term.second;
    }
    return sum;
  });
}

template <class T>
T sign(T x) {
  return x > 0 ? T(1) : x < 0 ? T(-1) : x;  // a NaN stays one
}

template <class T>
double binary_cross_entropy(const StepLoss<T>& call) {
  return sum_steps<T>(*call.batch, call.features, call.gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    return double(kernels<T>().rows.binary_cross_entropy(call.predictions.at(row, step), call.targets.at(row, step),
                                                         call.features, gradient_at(call.gradient, row, step)));
  });
}

template <class T>
double squared_error(const StepLoss<T>& call) {
  return sum_errors(call, [](T error) { return std::pair<double, T>(double(error) * double(error), 2 * error); });
}

template <class T>
double absolute_error(const StepLoss<T>& call) {
  return sum_errors(call, [](T error) { return std::pair<double, T>(std::fabs(error), sign(error)); });
}

template <class T>
double huber(const StepLoss<T>& call) {
  return sum_errors(call, [delta = call.options.number](T error) {
    const double size = std::fabs(error);
    if (size > delta) return std::pair<double, T>(delta * (size - delta / 2), T(delta) * sign(error));
    return std::pair<double, T>(size * size / 2, error);
  });
}

template <class T>
double quantile_loss(const StepLoss<T>& call) {
  const std::vector<double>& quantiles = *call.options.quantiles;
  const ptrdiff_t width = call.features * ptrdiff_t(quantiles.size());
  return sum_steps<T>(*call.batch, width, call.gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    const T* x = call.predictions.at(row, step);
    const T* y = call.targets.at(row, step);
    T* d = gradient_at(call.gradient, row, step);
    double sum = 0;
    for (ptrdiff_t k = 0; k < call.features; ++k)
      for (double q : quantiles) {
        const T error = *x++ - y[k];
        const double slope = error > 0 ? 1 - q : error < 0 ? -q : double(error);
        sum += slope * double(error);
        if (d) *d++ = T(slope);
      }
    return sum;
  });
}

template <class T>
double gaussian_nll(const StepLoss<T>& call) {
  constexpr double kLog2Pi = 1.83787706640934548356;
  const double least = std::log(call.options.number);
  const ptrdiff_t features = call.features;
  return sum_steps<T>(*call.batch, 2 * features, call.gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    const T* x = call.predictions.at(row, step);
    const T* y = call.targets.at(row, step);
    T* d = gradient_at(call.gradient, row, step);
    double sum = 0;
    for (ptrdiff_t k = 0; k < features; ++k) {
      const double error = double(x[k]) - double(y[k]), given = double(x[features + k]);
      const double log_variance = given < least ? least : given;
      const double scaled = error * std::exp(-log_variance);
      sum += (error * scaled + log_variance + kLog2Pi) / 2;
      if (!d) continue;
      d[k] = T(scaled);
      d[features + k] = given < least ? T(0) : T((1 - error * scaled) / 2);
    }
    return sum;
  });
}

// The larger of the squared errors of a value and of what the clip leaves of its change; the latter has no slope.
template <class T>
double value_loss(const StepLoss<T>& call) {
  const ptrdiff_t features = call.features / 2;
  const double clip = call.options.number;
  return sum_steps<T>(*call.batch, features, call.gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    const T* x = call.predictions.at(row, step);
    const T* y = call.targets.at(row, step);
    T* d = gradient_at(call.gradient, row, step);
    double sum = 0;
    for (ptrdiff_t k = 0; k < features; ++k) {
      const double wanted = double(y[k]), old = double(y[features + k]), plain = double(x[k]) - wanted;
      const double bounded = std::clamp(double(x[k]), old - clip, old + clip) - wanted;
      const bool clipped = bounded * bounded > plain * plain;
      sum += clipped ? bounded * bounded : plain * plain;
      if (d) d[k] = clipped ? T(0) : T(2 * plain);
    }
    return sum;
  });
}

}  // namespace

template <class T>
double CpuDevice<T>::label_loss(const LabelLoss<T>& call) const {
  const auto& rows = kernels<T>().rows;
  const LabelOptions<T>& options = call.options;
  const ptrdiff_t classes = call.classes;
  return sum_steps<T>(*call.batch, classes, call.gradient, [&](ptrdiff_t row, ptrdiff_t step) -> double {
    const int64_t label = *call.labels.at(row, step);
    T* d = gradient_at(call.gradient, row, step);
    if (!options.counts(label)) {
      if (d) std::fill_n(d, classes, T(0));
      return 0;
    }
    if (options.classes)
      return double(rows.weighted_cross_entropy(call.logits.at(row, step), classes, label, *options.classes, d));
    return double(rows.softmax_cross_entropy(call.logits.at(row, step), classes, label, d));
  });
}

template <class T>
double CpuDevice<T>::step_loss(const StepLoss<T>& call) const {
  switch (call.options.kind) {
    case LossKind::kBinaryCrossEntropy:
      return binary_cross_entropy(call);
    case LossKind::kSquaredError:
      return squared_error(call);
    case LossKind::kAbsoluteError:
      return absolute_error(call);
    case LossKind::kHuber:
      return huber(call);
    case LossKind::kQuantile:
      return quantile_loss(call);
    case LossKind::kGaussian:
      return gaussian_nll(call);
    case LossKind::kMixture:
      return mixture_density(call);
    case LossKind::kPolicy:
      return policy_loss(call);
    case LossKind::kValue:
      break;
  }
  return value_loss(call);
}

template double CpuDevice<float>::label_loss(const LabelLoss<float>&) const;
template double CpuDevice<double>::label_loss(const LabelLoss<double>&) const;
template double CpuDevice<float>::step_loss(const StepLoss<float>&) const;
template double CpuDevice<double>::step_loss(const StepLoss<double>&) const;

}  // namespace recurra
