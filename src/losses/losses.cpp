#include "losses/losses.h"

#include <cmath>
#include <utility>

#include "cpu/isa.h"
#include "losses/steps.h"

namespace recurra {
namespace {

// A loss of each prediction's error; `f` gives its value and its slope.
template <class T, class F>
double sum_errors(const LossBatch& batch, ptrdiff_t features, Sequence<const T> predictions, Sequence<const T> targets,
                  Sequence<T> gradient, const F& f) {
  return sum_steps<T>(batch, features, gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    const T* x = predictions.at(row, step);
    const T* y = targets.at(row, step);
    T* d = gradient_at(gradient, row, step);
    double sum = 0;
    for (ptrdiff_t k = 0; k < features; ++k) {
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

}  // namespace

template <class T>
double softmax_cross_entropy(const LossBatch& batch, ptrdiff_t classes, Sequence<const T> logits,
                             Sequence<const int64_t> targets, const LabelOptions<T>& options, Sequence<T> gradient) {
  const auto& rows = kernels<T>().rows;
  return sum_steps<T>(batch, classes, gradient, [&](ptrdiff_t row, ptrdiff_t step) -> double {
    const int64_t label = *targets.at(row, step);
    T* d = gradient_at(gradient, row, step);
    if (!options.counts(label)) {
      if (d) std::fill_n(d, classes, T(0));
      return 0;
    }
    if (options.classes)
      return double(rows.weighted_cross_entropy(logits.at(row, step), classes, label, *options.classes, d));
    return double(rows.softmax_cross_entropy(logits.at(row, step), classes, label, d));
  });
}

template <class T>
double binary_cross_entropy(const LossBatch& batch, ptrdiff_t features, Sequence<const T> logits,
                            Sequence<const T> targets, Sequence<T> gradient) {
  return sum_steps<T>(batch, features, gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    return double(kernels<T>().rows.binary_cross_entropy(logits.at(row, step), targets.at(row, step), features,
                                                         gradient_at(gradient, row, step)));
  });
}

template <class T>
double mean_squared_error(const LossBatch& batch, ptrdiff_t features, Sequence<const T> predictions,
                          Sequence<const T> targets, Sequence<T> gradient) {
  return sum_errors(batch, features, predictions, targets, gradient,
                    [](T error) { return std::pair<double, T>(double(error) * double(error), 2 * error); });
}

template <class T>
double absolute_error(const LossBatch& batch, ptrdiff_t features, Sequence<const T> predictions,
                      Sequence<const T> targets, Sequence<T> gradient) {
  return sum_errors(batch, features, predictions, targets, gradient,
                    [](T error) { return std::pair<double, T>(std::fabs(error), sign(error)); });
}

template <class T>
double huber(const LossBatch& batch, ptrdiff_t features, double delta, Sequence<const T> predictions,
             Sequence<const T> targets, Sequence<T> gradient) {
  return sum_errors(batch, features, predictions, targets, gradient, [delta](T error) {
    const double size = std::fabs(error);
    if (size > delta) return std::pair<double, T>(delta * (size - delta / 2), T(delta) * sign(error));
    return std::pair<double, T>(size * size / 2, error);
  });
}

template <class T>
double quantile_loss(const LossBatch& batch, ptrdiff_t features, const std::vector<double>& quantiles,
                     Sequence<const T> predictions, Sequence<const T> targets, Sequence<T> gradient) {
  const ptrdiff_t width = features * ptrdiff_t(quantiles.size());
  return sum_steps<T>(batch, width, gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    const T* x = predictions.at(row, step);
    const T* y = targets.at(row, step);
    T* d = gradient_at(gradient, row, step);
    double sum = 0;
    for (ptrdiff_t k = 0; k < features; ++k)
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
double gaussian_nll(const LossBatch& batch, ptrdiff_t features, double eps, Sequence<const T> predictions,
                    Sequence<const T> targets, Sequence<T> gradient) {
  constexpr double kLog2Pi = 1.83787706640934548356;
  const double least = std::log(eps);
  return sum_steps<T>(batch, 2 * features, gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    const T* x = predictions.at(row, step);
    const T* y = targets.at(row, step);
    T* d = gradient_at(gradient, row, step);
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

#define RECURRA_INSTANTIATE(T)                                                                                        \
  template double softmax_cross_entropy(const LossBatch&, ptrdiff_t, Sequence<const T>, Sequence<const int64_t>,      \
                                        const LabelOptions<T>&, Sequence<T>);                                         \
  template double binary_cross_entropy(const LossBatch&, ptrdiff_t, Sequence<const T>, Sequence<const T>,             \
                                       Sequence<T>);                                                                  \
  template double mean_squared_error(const LossBatch&, ptrdiff_t, Sequence<const T>, Sequence<const T>, Sequence<T>); \
  template double absolute_error(const LossBatch&, ptrdiff_t, Sequence<const T>, Sequence<const T>, Sequence<T>);     \
  template double huber(const LossBatch&, ptrdiff_t, double, Sequence<const T>, Sequence<const T>, Sequence<T>);      \
  template double quantile_loss(const LossBatch&, ptrdiff_t, const std::vector<double>&, Sequence<const T>,           \
                                Sequence<const T>, Sequence<T>);                                                      \
  template double gaussian_nll(const LossBatch&, ptrdiff_t, double, Sequence<const T>, Sequence<const T>, Sequence<T>)
RECURRA_INSTANTIATE(float);
RECURRA_INSTANTIATE(double);

}  // namespace recurra
