#include "search/head.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "platform/error.h"

namespace recurra {
namespace {

constexpr double kTwoPi = 6.28318530717958647693;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Two independent standard normal numbers (Box and Muller 1958).
struct Normals {
  double first, second;
  explicit Normals(RandomNumbers& random) {
    const double radius = std::sqrt(-2 * std::log1p(-random.uniform())), angle = kTwoPi * random.uniform();
    first = radius * std::cos(angle);
    second = radius * std::sin(angle);
  }
};

// 0 or 1, of a logit.
bool draw_bit(double logit, double temperature, RandomNumbers& random) {
  const double u = random.uniform();
  return temperature > 0 ? u < sigmoid(logit / temperature) : logit > 0;
}

}  // namespace

template <class T>
ptrdiff_t Head<T>::width(const HeadOptions& o, ptrdiff_t predictions) {
  switch (o.kind) {
    case HeadKind::kCategorical:
      return 0;
    case HeadKind::kGaussian:
      return predictions / 2;
    case HeadKind::kMixture:
      return o.mixture.targets();
    default:
      return predictions;
  }
}

template <class T>
void Head<T>::check_options(const HeadOptions& o, ptrdiff_t predictions, const char* owner) {
  check(predictions >= 1, owner, "an output has ", predictions, " features, expected at least 1");
  if (o.kind == HeadKind::kGaussian)
    check(predictions % 2 == 0, owner, "an output has ", predictions,
          " features, expected an even number, a mean and the logarithm of a variance for each number drawn");
  if (o.kind == HeadKind::kMixture)
    check(predictions == o.mixture.predictions(), owner, "an output has ", predictions, " features, expected ",
          o.mixture.predictions(), ", the loss's prediction_size");
  for (const auto& [name, tokens] : {std::pair{"stop", &o.stops}, {"suppress", &o.suppressed}})
    for (int64_t token : *tokens)
      check(token >= 0 && token < predictions, owner, name, " holds ", token, ", expected tokens from 0 to ",
            predictions - 1);
}

template <class T>
Head<T>::Head(const Devices& devices, const HeadOptions& options, ptrdiff_t predictions)
    : devices_(devices),
      device_(devices.of<T>()),
      options_(options),
      predictions_(predictions),
      width_(width(options, predictions)),
      plain_(options.temperature == 1 && options.top_p >= 1 && !options.top_k && options.penalty == 1 &&
             options.suppressed.empty()),
      memory_(devices) {
  if (options.kind == HeadKind::kMixture) weights_.resize(size_t(options.mixture.components));
  if (options.kind != HeadKind::kCategorical) return;
  for (T** to : {&log_probs_, &scores_, &reshaped_}) *to = memory_.device.template take<T>(size_t(predictions));
}

template <class T>
Drawn Head<T>::draw(const T* y, const uint8_t* seen, RandomNumbers random, T* sample) {
  if (options_.kind == HeadKind::kCategorical) return draw_token(y, seen, random);
  {
    const HostAccess access(devices_);
    for (ptrdiff_t k = 0; k < predictions_; ++k)
      if (!std::isfinite(y[k])) return {0, 0, "predictions that are not finite"};
    if (options_.kind == HeadKind::kMixture)
      draw_mixture(y, random, sample);
    else
      draw_vector(y, random, sample);
    for (ptrdiff_t k = 0; k < width_; ++k)
      if (!std::isfinite(sample[k])) return {0, 0, "predictions whose samples are not finite"};
  }
  return {0, options_.kind == HeadKind::kValue ? 0 : log_density(y, sample)};
}

template <class T>
Drawn Head<T>::draw_token(const T* logits, const uint8_t* seen, RandomNumbers& random) {
  device_.log_softmax(logits, log_probs_, predictions_);
  {
    const HostAccess access(devices_);
    if (std::isnan(log_probs_[0])) return {0, 0, "logits that hold NaN or infinity, or are all -infinity"};
  }
  Drawn drawn;
  if (plain_) {
    const HostAccess access(devices_);
    drawn.token = draw_one(log_probs_, random);
  } else {
    drawn.token = reshape(logits, seen, drawn.problem);
    if (drawn.problem) return drawn;
    if (drawn.token < 0) {
      device_.log_softmax(scores_, reshaped_, predictions_);
      const HostAccess access(devices_);
      drawn.token = options_.top_p < 1 ? draw_nucleus(random) : draw_one(reshaped_, random);
    }
  }
  const HostAccess access(devices_);
  drawn.log_prob = double(log_probs_[drawn.token]);
  return drawn;
}

// Leaves the logits that the options make of the model's in scores_, but for top_p; or returns the token, if there is
// no choice; else -1.
template <class T>
ptrdiff_t Head<T>::reshape(const T* logits, const uint8_t* seen, const char*& problem) {
  const HostAccess access(devices_);
  constexpr double kLargest = double(std::numeric_limits<T>::max());
  constexpr T kNever = -std::numeric_limits<T>::infinity();
  std::copy_n(logits, predictions_, scores_);
  if (seen)
    for (ptrdiff_t k = 0; k < predictions_; ++k) {
      if (!seen[k] || scores_[k] == kNever) continue;
      const double x = double(scores_[k]), made = x < 0 ? x * options_.penalty : x / options_.penalty;
      scores_[k] = T(std::clamp(made, -kLargest, kLargest));
    }
  for (int64_t token : options_.suppressed) scores_[token] = kNever;
  const T* const best = std::max_element(scores_, scores_ + predictions_);  // of equal ones, the first
  const T most = *best;
  if (most == kNever) problem = "no token that is possible and not suppressed";
  if (problem || options_.temperature == 0) return best - scores_;
  keep_top(most);
  for (ptrdiff_t k = 0; k < predictions_; ++k)
    scores_[k] = T((double(scores_[k]) - double(most)) / options_.temperature);
  return -1;
}

template <class T>
void Head<T>::keep_top(T most) {
  if (!options_.top_k || options_.top_k >= predictions_) return;
  T least = most;
  if (options_.top_k > 1) {
    ranked_.assign(scores_, scores_ + predictions_);
    const auto place = ranked_.begin() + (options_.top_k - 1);
    std::nth_element(ranked_.begin(), place, ranked_.end(), std::greater<T>());
    least = *place;
  }
  for (ptrdiff_t k = 0; k < predictions_; ++k)
    if (scores_[k] < least) scores_[k] = -std::numeric_limits<T>::infinity();
}

// A token in proportion to its probability, by inversion. What rounding leaves at the end goes to the last possible.
template <class T>
ptrdiff_t Head<T>::draw_one(const T* log_probs, RandomNumbers& random) const {
  const double u = random.uniform();
  double sum = 0;
  ptrdiff_t last = 0;
  for (ptrdiff_t k = 0; k < predictions_; ++k) {
    const T p = std::exp(log_probs[k]);
    if (!(p > 0)) continue;
    last = k;
    sum += double(p);
    if (sum > u) break;
  }
  return last;
}

// The same among the nucleus, which a quickselect by sums of probabilities finds.
template <class T>
ptrdiff_t Head<T>::draw_nucleus(RandomNumbers& random) {
  order_.clear();
  weights_.resize(size_t(predictions_));
  for (ptrdiff_t k = 0; k < predictions_; ++k) {
    weights_[size_t(k)] = double(std::exp(reshaped_[k]));
    if (weights_[size_t(k)] > 0) order_.push_back(int32_t(k));
  }
  const double* const weight = weights_.data();
  const auto before = [weight](int32_t a, int32_t b) { return weight[a] != weight[b] ? weight[a] > weight[b] : a < b; };
  auto begin = order_.begin(), end = order_.end();
  double kept = 0;  // probability of all before `begin`, which are kept; none from `end` on is
  while (begin != end) {
    std::iter_swap(begin + (end - begin) / 2, end - 1);
    const int32_t pivot = end[-1];
    const auto middle = std::partition(begin, end - 1, [&](int32_t k) { return before(k, pivot); });
    double sum = kept;
    for (auto k = begin; k != middle; ++k) sum += weight[*k];
    if (sum >= options_.top_p && middle != order_.begin()) {
      end = middle;
      continue;
    }
    std::iter_swap(middle, end - 1);
    begin = middle + 1;
    kept = sum + weight[pivot];
    if (kept >= options_.top_p) break;
  }
  const double target = random.uniform() * kept;
  double reached = 0;
  for (auto k = order_.begin(); k != begin; ++k) {
    reached += weight[*k];
    if (reached > target) return *k;
  }
  return begin[-1];
}

template <class T>
double Head<T>::deviation(double log_variance, double least) const {
  return std::exp(std::max(log_variance, least) / 2) * std::sqrt(options_.temperature);
}

template <class T>
void Head<T>::draw_vector(const T* y, RandomNumbers& random, T* sample) {
  for (ptrdiff_t k = 0; k < width_; ++k) {
    if (options_.kind == HeadKind::kValue)
      sample[k] = y[k];
    else if (options_.kind == HeadKind::kBernoulli)
      sample[k] = T(draw_bit(double(y[k]), options_.temperature, random));
    else
      sample[k] = T(double(y[k]) + deviation(double(y[width_ + k]), std::log(options_.eps)) * Normals(random).first);
  }
}

// A component, then its Gaussian: Graves (2013), equations 23 to 25.
template <class T>
void Head<T>::draw_mixture(const T* y, RandomNumbers& random, T* sample) {
  const Mixture& m = options_.mixture;
  const ptrdiff_t M = m.components, F = m.features;  // NOLINT(readability-identifier-naming)
  const double tau = options_.temperature, most = double(*std::max_element(y, y + M));
  double sum = 0;
  for (ptrdiff_t j = 0; j < M; ++j) {
    const double logit = double(y[j]) - most;
    sum += weights_[size_t(j)] = tau > 0 ? std::exp(logit / tau) : double(logit == 0);
  }
  const double target = random.uniform() * (tau > 0 ? sum : 1);
  double reached = 0;
  ptrdiff_t chosen = 0;
  for (ptrdiff_t j = 0; j < M; ++j) {
    if (!(weights_[size_t(j)] > 0)) continue;
    chosen = j;
    reached += weights_[size_t(j)];
    if (reached > target) break;
  }
  const T *mu = y + M + chosen * F, *log_sigma = mu + M * F;
  for (ptrdiff_t k = 0; k < F; k += 2) {
    const Normals z(random);
    double second = z.second;
    if (m.correlated) {
      const double widest = std::acosh(1 / std::sqrt(m.eps));
      const double given = std::clamp(double(y[M * (1 + 2 * F) + chosen]), -widest, widest);
      second = std::tanh(given) * z.first + z.second / std::cosh(given);  // sqrt(1 - tanh^2) = 1 / cosh
    }
    for (ptrdiff_t i = k; i < std::min(k + 2, F); ++i)
      sample[i] =
          T(double(mu[i]) + deviation(2 * double(log_sigma[i]), 2 * std::log(m.eps)) * (i == k ? z.first : second));
  }
  if (m.binary) sample[F] = T(draw_bit(double(y[predictions_ - 1]), tau, random));
}

// Minus the loss that the head is trained with.
template <class T>
double Head<T>::log_density(const T* y, const T* sample) const {
  LossOptions loss = {LossKind::kBinaryCrossEntropy};
  ptrdiff_t features = width_;
  if (options_.kind == HeadKind::kGaussian) loss = {LossKind::kGaussian, options_.eps};
  if (options_.kind == HeadKind::kMixture) loss = {LossKind::kMixture, 0, nullptr, &options_.mixture};
  LossBatch batch = {};
  static_cast<Batch&>(batch) = {1, 1, nullptr, nullptr, 0, 0};
  return -device_.step_loss({loss, &batch, features, {y, predictions_, predictions_}, {sample, width_, width_}, {}});
}

template class Head<float>;
template class Head<double>;

}  // namespace recurra
