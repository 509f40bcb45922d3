// Losses as a device is told of them: the sum over the valid steps of a batch, and its gradient, whose padding is zero.
// Sums are made in double, in one order. What they are to be divided by is the caller's matter.
#pragma once
#include <algorithm>
#include <vector>

#include "device/chain.h"
#include "kernels/rows/call.h"

namespace recurra {

// A batch whose steps may have weights, at least 0, that multiply loss and gradient. Nothing is read where they are 0.
struct LossBatch : Batch {
  Sequence<const double> weights;  // data null: 1
  Stop* stop;                      // null: do not poll; once it is requested, neither sum nor gradient is of use
  double weight(ptrdiff_t row, ptrdiff_t step) const { return weights.data ? *weights.at(row, step) : 1; }
};

// Which labels count, and how much.
template <class T>
struct LabelOptions {
  const ClassWeights<T>* classes;  // null: all alike, nothing smoothed
  const int64_t* ignored;          // a label whose steps do not count; null: none
  bool counts(int64_t label) const { return !ignored || label != *ignored; }
  bool has_weights() const { return classes && classes->weights; }
};

// In all of these, gradient.data null: not wanted.

// Softmax cross-entropy. Labels that count must lie in [0, classes).
template <class T>
struct LabelLoss {
  const LossBatch* batch;
  ptrdiff_t classes;
  Sequence<const T> logits;
  Sequence<const int64_t> labels;
  LabelOptions<T> options;
  Sequence<T> gradient;
};

// A mixture of Gaussians over `features` numbers, beside them perhaps one number that is 0 or 1.
struct Mixture {
  ptrdiff_t components, features;
  bool correlated;  // two features with a correlation; else the features of a component are independent
  bool binary;      // the last target is 0 or 1
  double eps;       // the least standard deviation and the least 1 - correlation^2
  // Predictions of a step: logits of the weights (components), means (components, features), logarithms of standard
  // deviations (components, features), correlations before their tanh (components), the logit of the binary target.
  ptrdiff_t predictions() const { return components * (1 + 2 * features + (correlated ? 1 : 0)) + (binary ? 1 : 0); }
  ptrdiff_t targets() const { return features + (binary ? 1 : 0); }
};

enum class LossKind {
  kBinaryCrossEntropy,
  kSquaredError,
  kAbsoluteError,
  kHuber,
  kQuantile,  // predictions: for each target one per quantile
  kGaussian,  // predictions: as many means, then as many logarithms of variances, taken as at least log(eps)
  kMixture,   // -log p(targets)
};

struct LossOptions {
  LossKind kind;
  double number = 0;  // Huber's delta, the Gaussian's eps
  const std::vector<double>* quantiles = nullptr;
  const Mixture* mixture = nullptr;
};

// A loss of each step's predictions and targets, of which there are `features`.
template <class T>
struct StepLoss {
  LossOptions options;
  const LossBatch* batch;
  ptrdiff_t features;
  Sequence<const T> predictions, targets;
  Sequence<T> gradient;
};

// Rows of labels, each ended by a negative number or by the row's end.
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
// gradient; `feasible` says, for each row, whether it is another one. A row's weight is that of its first step.
template <class T>
struct CtcLoss {
  const LossBatch* batch;
  ptrdiff_t symbols, blank;
  Sequence<const T> logits;
  Targets targets;
  Sequence<T> gradient;
  bool* feasible;
};

// The sum of -log p(tags) over the valid steps' rows. Tags must lie in [0, tags); at steps of the label `ignored`
// (null: there are none) every tag is possible, and summed over. A row's weight is that of its first step. The gradient
// of the chain's scores is added up in `chain_gradient`: transitions, start, end (null: neither gradient is wanted).
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
