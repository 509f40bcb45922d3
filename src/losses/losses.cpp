#include "losses/losses.h"

#include <cmath>
#include <utility>

#include "backend/isa.h"
#include "losses/steps.h"

namespace recurra {
namespace {

// A loss of each prediction's error; `f` gives its value and its slope.
template <class T, class F>
Loss sum_errors(const Batch& batch, ptrdiff_t features, Sequence<const T> predictions, Sequence<const T> targets,
                Sequence<T> gradient, const F& f) {
  return sum_steps<T>(batch, features, double(batch.tokens() * features), gradient, [&](ptrdiff_t row, ptrdiff_t step) {
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

// The sum of the targets' weights, in order.
template <class T>
double count_labels(const Batch& batch, Sequence<const int64_t> targets, const LabelOptions<T>& options) {
  if (!options.ignored && !options.has_weights()) return double(batch.tokens());
  double count = 0;
  for (ptrdiff_t row = 0; row < batch.rows; ++row)
    for (ptrdiff_t step = 0; step < batch.length(row); ++step) {
      const int64_t label = *targets.at(row, step);
      if (options.counts(label)) count += options.has_weights() ? double(options.classes->weights[label]) : 1;
    }
  return count;
}

}  // namespace

template <class T>
Loss softmax_cross_entropy(const Batch& batch, ptrdiff_t classes, Sequence<const T> logits,
                           Sequence<const int64_t> targets, const LabelOptions<T>& options, Sequence<T> gradient) {
  const auto& rows = kernels<T>().rows;
  return sum_steps<T>(
      batch, classes, count_labels(batch, targets, options), gradient, [&](ptrdiff_t row, ptrdiff_t step) -> double {
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
Loss binary_cross_entropy(const Batch& batch, ptrdiff_t features, Sequence<const T> logits, Sequence<const T> targets,
                          Sequence<T> gradient) {
  return sum_steps<T>(batch, features, double(batch.tokens() * features), gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    return double(kernels<T>().rows.binary_cross_entropy(logits.at(row, step), targets.at(row, step), features,
                                                         gradient_at(gradient, row, step)));
  });
}

template <class T>
Loss mean_squared_error(const Batch& batch, ptrdiff_t features, Sequence<const T> predictions,
                        Sequence<const T> targets, Sequence<T> gradient) {
  return sum_errors(batch, features, predictions, targets, gradient,
                    [](T error) { return std::pair<double, T>(double(error) * double(error), 2 * error); });
}

template <class T>
Loss absolute_error(const Batch& batch, ptrdiff_t features, Sequence<const T> predictions, Sequence<const T> targets,
                    Sequence<T> gradient) {
  return sum_errors(batch, features, predictions, targets, gradient,
                    [](T error) { return std::pair<double, T>(std::fabs(error), sign(error)); });
}

template <class T>
Loss huber(const Batch& batch, ptrdiff_t features, double delta, Sequence<const T> predictions,
           Sequence<const T> targets, Sequence<T> gradient) {
  return sum_errors(batch, features, predictions, targets, gradient, [delta](T error) {
    const double size = std::fabs(error);
    if (size > delta) return std::pair<double, T>(delta * (size - delta / 2), T(delta) * sign(error));
    return std::pair<double, T>(size * size / 2, error);
  });
}

template <class T>
Loss quantile_loss(const Batch& batch, ptrdiff_t features, const std::vector<double>& quantiles,
                   Sequence<const T> predictions, Sequence<const T> targets, Sequence<T> gradient) {
  const ptrdiff_t width = features * ptrdiff_t(quantiles.size());
  return sum_steps<T>(batch, width, double(batch.tokens() * width), gradient, [&](ptrdiff_t row, ptrdiff_t step) {
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
Loss gaussian_nll(const Batch& batch, ptrdiff_t features, double eps, Sequence<const T> predictions,
                  Sequence<const T> targets, Sequence<T> gradient) {
  constexpr double kLog2Pi = 1.83787706640934548356;
  const double least = std::log(eps);
  const double count = double(batch.tokens() * features);
  return sum_steps<T>(batch, 2 * features, count, gradient, [&](ptrdiff_t row, ptrdiff_t step) {
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

#define RECURRA_INSTANTIATE(T)                                                                                    \
  template Loss softmax_cross_entropy(const Batch&, ptrdiff_t, Sequence<const T>, Sequence<const int64_t>,        \
                                      const LabelOptions<T>&, Sequence<T>);                                       \
  template Loss binary_cross_entropy(const Batch&, ptrdiff_t, Sequence<const T>, Sequence<const T>, Sequence<T>); \
  template Loss mean_squared_error(const Batch&, ptrdiff_t, Sequence<const T>, Sequence<const T>, Sequence<T>);   \
  template Loss absolute_error(const Batch&, ptrdiff_t, Sequence<const T>, Sequence<const T>, Sequence<T>);       \
  template Loss huber(const Batch&, ptrdiff_t, double, Sequence<const T>, Sequence<const T>, Sequence<T>);        \
  template Loss quantile_loss(const Batch&, ptrdiff_t, const std::vector<double>&, Sequence<const T>,             \
                              Sequence<const T>, Sequence<T>);                                                    \
  template Loss gaussian_nll(const Batch&, ptrdiff_t, double, Sequence<const T>, Sequence<const T>, Sequence<T>)
RECURRA_INSTANTIATE(float);
RECURRA_INSTANTIATE(double);

}  // namespace recurra
