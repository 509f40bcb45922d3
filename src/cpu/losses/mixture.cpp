#include "cpu/losses/mixture.h"

#include <cmath>

#include "cpu/losses/steps.h"

namespace recurra {
namespace {

// x becomes softmax(x); the logarithm of the sum of its exponentials.
double softmax(double* x, ptrdiff_t n) {
  const double most = *std::max_element(x, x + n);
  for (ptrdiff_t k = 0; k < n; ++k) x[k] -= most;
  kernels<double>().rows.exp(x, x, n);
  double sum = 0;
  for (ptrdiff_t k = 0; k < n; ++k) sum += x[k];
  for (ptrdiff_t k = 0; k < n; ++k) x[k] /= sum;
  return most + std::log(sum);
}

// One step, in double: densities of a narrow component leave the range of a float. Letters are those of Graves (2013),
// section 4.1: per component a weight pi, means mu, standard deviations sigma, a correlation rho, and
// Z = z_1^2 + z_2^2 - 2 rho z_1 z_2 with z = (y - mu) / sigma. Without correlation Z is the sum of all z^2.
class Step {
 public:
  Step(const Mixture& m, double* scratch) : m_(m), x_(scratch) {}
  static ptrdiff_t scratch(const Mixture& m) { return m.predictions() + m.components * (3 + m.features); }

  template <class T>
  double run(const T* predictions, const T* targets, T* gradient) {
    std::copy_n(predictions, m_.predictions(), x_);
    std::copy_n(pi_, M, share_);
    const double all = softmax(pi_, M);
    for (ptrdiff_t k = 0; k < M * F; ++k) inverse_[k] = -std::max(log_sigma_[k], least_);
    kernels<double>().rows.exp(inverse_, inverse_, M * F);
    for (ptrdiff_t j = 0; j < M; ++j) share_[j] += log_density(j, targets) - all;
    double loss = -softmax(share_, M);
    if (gradient)
      for (ptrdiff_t j = 0; j < M; ++j) component_gradient(j, gradient);
    if (!m_.binary) return loss;
    const double logit = x_[m_.predictions() - 1], target = double(targets[F]);
    if (gradient) gradient[m_.predictions() - 1] = T(1 / (1 + std::exp(-logit)) - target);
    return loss + std::max(logit, 0.0) - logit * target + std::log1p(std::exp(-std::fabs(logit)));
  }

 private:
  // Leaves z in the place of mu.
  template <class T>
  double log_density(ptrdiff_t j, const T* targets) {
    double Z = 0, result = -double(F) * kLog2Pi / 2;
    double* z = z_ + j * F;
    for (ptrdiff_t k = 0; k < F; ++k) {
      z[k] = (double(targets[k]) - z[k]) * inverse_[j * F + k];
      Z += z[k] * z[k];
      result -= std::max(log_sigma_[j * F + k], least_);
    }
    rho_[j] = 0;
    sharpness_[j] = 1;
    if (m_.correlated) {
      const double given = std::clamp(given_rho_[j], -widest_, widest_), cosh = std::cosh(given);
      rho_[j] = std::tanh(given);
      sharpness_[j] = cosh * cosh;
      Z -= 2 * rho_[j] * z[0] * z[1];
      result += std::log(cosh);
    }
    return result - sharpness_[j] * Z / 2;
  }

  template <class T>
  void component_gradient(ptrdiff_t j, T* gradient) const {
    const double *z = z_ + j * F, share = share_[j], rho = rho_[j], sharpness = sharpness_[j];
    gradient[j] = T(pi_[j] - share);
    T *d_mu = gradient + M + j * F, *d_sigma = d_mu + M * F;
    for (ptrdiff_t k = 0; k < F; ++k) {
      const double pull = sharpness * (m_.correlated ? z[k] - rho * z[1 - k] : z[k]);
      d_mu[k] = T(-share * pull * inverse_[j * F + k]);
      d_sigma[k] = log_sigma_[j * F + k] < least_ ? T(0) : T(share * (1 - pull * z[k]));
    }
    if (!m_.correlated) return;
    const double Z = z[0] * z[0] + z[1] * z[1] - 2 * rho * z[0] * z[1];
    const bool bounded = std::fabs(given_rho_[j]) > widest_;
    gradient[M * (1 + 2 * F) + j] = bounded ? T(0) : T(-share * (z[0] * z[1] + rho * (1 - sharpness * Z)));
  }

  static constexpr double kLog2Pi = 1.83787706640934548356;
  const Mixture& m_;
  const ptrdiff_t M = m_.components, F = m_.features;  // NOLINT(readability-identifier-naming)
  const double least_ = std::log(m_.eps), widest_ = std::acosh(1 / std::sqrt(m_.eps));
  // The predictions: pi and z begin as the logits and mu.
  double *x_, *pi_ = x_, *z_ = pi_ + M, *log_sigma_ = z_ + M * F, *given_rho_ = log_sigma_ + M * F;
  // What each component accounts for, C = 1 / (1 - rho^2), rho, 1 / sigma.
  double *share_ = x_ + m_.predictions(), *sharpness_ = share_ + M, *rho_ = sharpness_ + M, *inverse_ = rho_ + M;
};

}  // namespace

template <class T>
double mixture_density(const StepLoss<T>& call) {
  const Mixture& mixture = *call.options.mixture;
  const ptrdiff_t scratch = Step::scratch(mixture);
  std::vector<double> memory(size_t(call.batch->rows * scratch));
  return sum_steps<T>(*call.batch, mixture.predictions(), call.gradient, [&](ptrdiff_t row, ptrdiff_t step) {
    return Step(mixture, memory.data() + row * scratch)
        .run(call.predictions.at(row, step), call.targets.at(row, step), gradient_at(call.gradient, row, step));
  });
}

template double mixture_density(const StepLoss<float>&);
template double mixture_density(const StepLoss<double>&);

}  // namespace recurra
