// One output of a model as a distribution of the next step, and draws from it.
#pragma once
#include <cstdint>
#include <vector>

#include "device/device.h"
#include "platform/random.h"

namespace recurra {

enum class HeadKind {
  kCategorical,  // the output is a logit for each token
  kBernoulli,    // a logit for each of several numbers that are 0 or 1
  kGaussian,     // as LossKind::kGaussian
  kMixture,      // as LossKind::kMixture
  kValue,        // the numbers themselves: nothing is drawn
};

struct HeadOptions {
  HeadKind kind = HeadKind::kCategorical;
  // 0: the most probable. Divides logits, and multiplies variances: Ha and Eck (2018), section 3.3, of mixtures.
  double temperature = 1;
  // Of tokens, in this order, the temperature being applied after the penalty.
  std::vector<int64_t> suppressed = {};
  double penalty = 1;   // divides positive logits of tokens that the row has seen, multiplies negative ones
  ptrdiff_t top_k = 0;  // 0: all. Ties with the last one stay.
  double top_p = 1;     // the fewest tokens whose probabilities reach it
  std::vector<int64_t> stops = {};
  Mixture mixture = {};
  double eps = 0;  // the Gaussian's
};

struct Drawn {
  int64_t token = 0;
  double log_prob = 0;            // as the model says, whatever the options are
  const char* problem = nullptr;  // if there is nothing to draw
};

// Draws one row at a time; not for two threads at once.
template <class T>
class Head {
 public:
  // `predictions`: features of the output.
  Head(const Devices&, const HeadOptions&, ptrdiff_t predictions);

  // Throws std::invalid_argument for options that do not fit the output.
  static void check_options(const HeadOptions&, ptrdiff_t predictions, const char* owner);
  // Numbers of a sample; 0: it is a token.
  static ptrdiff_t width(const HeadOptions&, ptrdiff_t predictions);

  // `seen`: for each token whether the row has seen it; null without a penalty. A vector is written to `sample`, which
  // lies in the device's memory as `y` does.
  Drawn draw(const T* y, const uint8_t* seen, RandomNumbers random, T* sample);

 private:
  Drawn draw_token(const T* logits, const uint8_t* seen, RandomNumbers& random);
  ptrdiff_t reshape(const T* logits, const uint8_t* seen, const char*& problem);
  void keep_top(T most);
  ptrdiff_t draw_nucleus(RandomNumbers& random);
  ptrdiff_t draw_one(const T* log_probs, RandomNumbers& random) const;
  void draw_vector(const T* y, RandomNumbers& random, T* sample);
  void draw_mixture(const T* y, RandomNumbers& random, T* sample);
  double log_density(const T* y, const T* sample) const;
  double deviation(double log_variance, double least) const;

  const Devices& devices_;
  const Device<T>& device_;
  const HeadOptions options_;
  const ptrdiff_t predictions_, width_;
  const bool plain_;  // tokens are drawn as the model says
  Memory memory_;
  T *log_probs_ = nullptr, *scores_ = nullptr, *reshaped_ = nullptr;
  std::vector<T> ranked_;
  std::vector<int32_t> order_;
  std::vector<double> weights_;
};

}  // namespace recurra
