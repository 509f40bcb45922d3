// The loss of a mixture density network.
#pragma once
#include "losses/losses.h"

namespace recurra {

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

// -log p(targets).
template <class T>
double mixture_density(const LossBatch&, const Mixture&, Sequence<const T> predictions, Sequence<const T> targets,
                       Sequence<T> gradient);

}  // namespace recurra
