// The arguments of a device's losses, which compute the sum over a batch's valid steps and its gradient, zero at
// padding. Sums are in double, in a fixed order. The caller divides them.
#pragma once
#include <algorithm>
#include <vector>

#include "device/chain.h"
#include "kernels/rows/call.h"

namespace recurra {

// A batch whose steps may have non-negative weights, which multiply loss and gradient. Steps of weight 0 are not read.
struct LossBatch : Batch {
  Sequence<const double> weights;  // data null: 1
  Stop* stop;                      // null: do not poll; once requested, sum and gradient are undefined
  double weight(ptrdiff_t row, ptrdiff_t step) const { return weights.data ? *weights.at(row, step) : 1; }
};

// Class weights, label smoothing, and the ignored label.
template <class T>
struct LabelOptions {
  const ClassWeights<T>* classes;  // null: equal weights, no smoothing
  const int64_t* ignored;          // a label whose steps are left out; null: none
  bool counts(int64_t label) const { return !ignored || label != *ignored; }
  bool has_weights() const { return classes && classes->weights; }
};

// In all of the following, gradient.data is null if the gradient is not wanted.

// Softmax cross-entropy. Labels other than the ignored one must lie in [0, classes).
template <class T>
struct LabelLoss {
  const LossBatch* batch;
  ptrdiff_t classes;
  Sequence<const T> logits;
  Sequence<const int64_t> labels;
  LabelOptions<T> options;
  Sequence<T> gradient;
};

// A mixture of Gaussians over `features` targets, and optionally one binary target.
struct Mixture {
  ptrdiff_t components, features;
  bool correlated;  // two features with a correlation; else the features of a component are independent
  bool binary;      // the last target is 0 or 1
  double eps;       // lower bound of standard deviations and of 1 - correlation^2
  // Predictions of a step: logits of the weights (components), means (components, features), log standard deviations
  // (components, features), correlations before tanh (components), the logit of the binary target.
  ptrdiff_t predictions() const { return components * (1 + 2 * features + (correlated ? 1 : 0)) + (binary ? 1 : 0); }
  ptrdiff_t targets() const { return features + (binary ? 1 : 0); }
};

// A policy's gradient: `predictions` are the logits of that many actions or, if Gaussian, as many means as log
// variances, these clamped to at least log(eps). Targets of a step: the action, its advantage and, if clipped, the
// logarithm of the probability that it was drawn with.
struct Policy {
  ptrdiff_t predictions;
  bool gaussian, clipped;
  double clip, entropy, eps;  // entropy: weight of the distribution's entropy, which is subtracted
  ptrdiff_t action() const { return gaussian ? predictions / 2 : 1; }
  ptrdiff_t targets() const { return action() + (clipped ? 2 : 1); }
};

enum class LossKind {
  kBinaryCrossEntropy,
  kSquaredError,
  kAbsoluteError,
  kHuber,
  kQuantile,  // predictions: for each target, one per quantile
  kGaussian,  // predictions: a mean for each target, then a log variance for each, clamped to at least log(eps)
  kMixture,   // -log p(targets)
  kPolicy,    // -advantage log p(action), or its clipped surrogate
  kValue,     // squared error; targets: the wanted values, then old ones, from which a value moves by at most a clip
};

struct LossOptions {
  LossKind kind;
  double number = 0;  // Huber's delta, the Gaussian's eps, the value's clip
  const std::vector<double>* quantiles = nullptr;
  const Mixture* mixture = nullptr;
  const Policy* policy = nullptr;
};

// A loss of each step's predictions, given its `features` targets.
template <class T>
struct StepLoss {
  LossOptions options;
  const LossBatch* batch;
  ptrdiff_t features;
  Sequence<const T> predictions, targets;
  Sequence<T> gradient;
};

// Rows of labels, each terminated by a negative number or by the row's end.
struct Targets {
  const int64_t* data;
  ptrdiff_t width;
  const int64_t* row(ptrdiff_t r) const { return data + r * width; }
  ptrdiff_t labels(ptrdiff_t r) const {
    return std::find_if(row(r), row(r) + width, [](int64_t label) { return label < 0; }) - row(r);
  }
};

// Connectionist temporal classification (Graves et al. 2006): the sum of -log p(target) over rows, log-softmax
// included. Targets must lie in [0, symbols) and not hold the blank. A target of probability 0 adds nothing to sum and
// gradient; `feasible` gets, for each row, whether its target has a positive probability. A row's weight is that of its
// first step.
template <class T>
struct CtcLoss {
  const LossBatch* batch;
  ptrdiff_t symbols, blank;
  Sequence<const T> logits;
  Targets targets;
  Sequence<T> gradient;
  bool* feasible;
};

// The sum of -log p(tags) over rows. Tags must lie in [0, tags); steps with the label `ignored` (null: none) are summed
// over all tags. A row's weight is that of its first step. The gradient of the chain's scores is added to
// `chain_gradient`: transitions, start, end (null: neither gradient is wanted).
template <class T>
struct CrfLoss {
  const LossBatch* batch;
  const Chain* chain;
  Sequence<const T> scores;
  const int64_t *tags, *ignored;
  Sequence<T> gradient;
  double* chain_gradient;
};

}  // namespace recurra
