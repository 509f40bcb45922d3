#include "cpu/losses/policy.h"

#include <cmath>
#include <limits>

#include "cpu/losses/steps.h"

namespace recurra {
namespace {

constexpr double kLogOf2Pi = 1.83787706640934548356;

// The loss of an action drawn with the log-probability `log_p`, and its slope by log_p. REINFORCE (Williams 1992), or
// equation 7 of Schulman et al. (2017). `given`: advantage, old log-probability.
template <class T>
std::pair<double, double> surrogate(const Policy& policy, double log_p, const T* given) {
  const double advantage = double(given[0]);
  if (!policy.clipped) return {-advantage * log_p, -advantage};
  if (advantage == 0) return {0, 0};  // whatever the ratio, which may be infinite
  const double ratio = std::exp(log_p - double(given[1]));
  const double plain = ratio * advantage;
  const double clipped = (ratio < 1 - policy.clip   ? 1 - policy.clip
                          : ratio > 1 + policy.clip ? 1 + policy.clip
                                                    : ratio) *
                         advantage;
  if (clipped < plain) return {-clipped, 0};
  return {-plain, -plain};
}

// In double: a ratio is the exponential of a small difference of logarithms.
template <class T>
double categorical(const Policy& policy, const T* x, const T* y, T* d, double* scratch) {
  const ptrdiff_t n = policy.predictions;
  double *const log_p = scratch, *const p = log_p + n;
  std::copy_n(x, n, p);
  kernels<double>().attention.log_softmax(p, log_p, n);
  kernels<double>().rows.exp(log_p, p, n);
  const double weight = policy.entropy;
  double entropy = 0;
  for (ptrdiff_t k = 0; k < n; ++k) {
    if (log_p[k] == -std::numeric_limits<double>::infinity()) p[k] = 0;  // ruled out; exp() has a least value
    if (weight > 0 && p[k] != 0) entropy -= p[k] * log_p[k];
  }
  const auto action = ptrdiff_t(y[0]);
  const auto [loss, slope] = surrogate(policy, log_p[action], y + 1);
  for (ptrdiff_t k = 0; d && k < n; ++k) {
    double sum = slope * ((k == action ? 1 : 0) - p[k]);
    if (weight > 0 && p[k] != 0) sum += weight * p[k] * (log_p[k] + entropy);
    d[k] = T(sum);
  }
  return loss - weight * entropy;
}

template <class T>
double gaussian(const Policy& policy, const T* x, const T* y, T* d) {
  const ptrdiff_t n = policy.action();
  const double least = std::log(policy.eps);
  double log_p = 0, entropy = 0;
  for (ptrdiff_t k = 0; k < n; ++k) {
    const double given = double(x[n + k]), log_variance = given < least ? least : given;
    const double error = double(y[k]) - double(x[k]);
    log_p -= (error * error * std::exp(-log_variance) + log_variance + kLogOf2Pi) / 2;
    entropy += (log_variance + kLogOf2Pi + 1) / 2;
  }
  const auto [loss, slope] = surrogate(policy, log_p, y + n);
  for (ptrdiff_t k = 0; d && k < n; ++k) {
    const double given = double(x[n + k]), error = double(y[k]) - double(x[k]);
    const double scaled = error * std::exp(-(given < least ? least : given));
    d[k] = T(slope * scaled);
    d[n + k] = given < least ? T(0) : T((slope * (error * scaled - 1) - policy.entropy) / 2);
  }
  return loss - policy.entropy * entropy;
}

}  // namespace

template <class T>
double policy_loss(const StepLoss<T>& call) {
  const Policy& policy = *call.options.policy;
  const ptrdiff_t scratch = policy.gaussian ? 0 : 2 * policy.predictions;
  std::vector<double> memory(size_t(call.batch->rows * scratch));
  return sum_steps<T>(*call.batch, policy.predictions, call.gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    const T* x = call.predictions.at(row, step);
    const T* y = call.targets.at(row, step);
    T* d = gradient_at(call.gradient, row, step);
    return policy.gaussian ? gaussian(policy, x, y, d) : categorical(policy, x, y, d, memory.data() + row * scratch);
  });
}

template double policy_loss(const StepLoss<float>&);
template double policy_loss(const StepLoss<double>&);

}  // namespace recurra
