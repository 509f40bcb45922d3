// The forward-backward algorithm over one row of a linear-chain CRF, in double.
//
// Each step's messages are kept relative to their largest, so that neither the length nor the size of the scores costs
// precision; a tag whose sum underflows in the product with exp(transitions) is summed again from logarithms.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "device/chain.h"

namespace recurra {

constexpr double kNever = -std::numeric_limits<double>::infinity();

// log(sum of exp(x(0)), ..., exp(x(n - 1)))
template <class F>
double log_sum(ptrdiff_t n, const F& x) {
  double most = kNever, sum = 0;
  for (ptrdiff_t i = 0; i < n; ++i) most = larger(most, x(i));
  if (most == kNever) return kNever;
  for (ptrdiff_t i = 0; i < n; ++i) sum += std::exp(x(i) - most);
  return most + std::log(sum);
}

// The steps between two looks at the clock: some tens of microseconds.
inline ptrdiff_t steps_between_polls(ptrdiff_t tags) { return 1 + (ptrdiff_t(1) << 15) / (tags * tags + 8 * tags); }

inline ptrdiff_t longest_row(const Batch& batch) {
  ptrdiff_t longest = 0;
  for (ptrdiff_t r = 0; r < batch.rows; ++r) longest = std::max(longest, batch.length(r));
  return longest;
}

template <class T>
class CrfRow {
 public:
  // Scratch of so many doubles for rows of at most `steps`.
  static size_t scratch(const Chain& chain, ptrdiff_t steps) { return size_t((steps + 5) * chain.tags() + steps); }

  // `tags`: null, or the only possible tag of each step but for those of the label `ignored`.
  CrfRow(const Chain& chain, Sequence<const T> scores, ptrdiff_t row, ptrdiff_t steps, const int64_t* tags,
         const int64_t* ignored, double* scratch, Stop* stop)
      : chain_(chain),
        k_(chain.tags()),
        steps_(steps),
        scores_(scores),
        row_(row),
        tags_(tags),
        ignored_(ignored),
        stop_(stop),
        every_(steps_between_polls(k_)),
        alpha_(scratch),
        most_(scratch + steps * k_),
        a_(most_ + steps),
        b_(a_ + k_),
        gamma_(b_ + k_),
        d_(gamma_ + k_),
        sums_(d_ + k_) {}

  // Fills the forward messages, alpha[t] less most(t); false: told to stop.
  bool forward() {
    for (ptrdiff_t t = 0; t < steps_; ++t) {
      if (t % every_ == 0 && stop_ && stop_->poll()) return false;
      double* to = alpha_ + t * k_;
      if (t == 0)
        for (ptrdiff_t j = 0; j < k_; ++j) to[j] = chain_.start()[j];
      else
        advance(alpha_ + (t - 1) * k_, to);
      double most = kNever;
      for (ptrdiff_t j = 0; j < k_; ++j) {
        to[j] += emission(t, j);
        if (t == steps_ - 1) to[j] += chain_.end()[j];
        most = larger(most, to[j]);
      }
      most_[t] = most;
      if (most != kNever)
        for (ptrdiff_t j = 0; j < k_; ++j) to[j] -= most;
    }
    return true;
  }

  double most(ptrdiff_t t) const { return most_[t]; }
  // What the sum over all taggings has beyond the sum of most(t).
  double last() const {
    const double* end = alpha_ + (steps_ - 1) * k_;
    return log_sum(k_, [&](ptrdiff_t j) { return end[j]; });
  }

  // visit(t, gamma) for every step, the last one first: the probabilities of its tags. `pairs` (null: not wanted) gets
  // weight times the expected number of each pair of neighbours; `factors` the same still to be multiplied by
  // exp_from(). False: told to stop.
  template <class F>
  bool backward(double weight, double* pairs, double* factors, const F& visit) {
    double *beta = a_, *next = b_;
    for (ptrdiff_t t = steps_ - 1; t >= 0; --t) {
      if (t % every_ == 0 && stop_ && stop_->poll()) return false;
      const double* alpha = alpha_ + t * k_;
      if (t == steps_ - 1)
        for (ptrdiff_t j = 0; j < k_; ++j) beta[j] = 0;
      else {
        for (ptrdiff_t j = 0; j < k_; ++j) {
          next[j] = beta[j] + emission(t + 1, j);
          if (t + 1 == steps_ - 1) next[j] += chain_.end()[j];
        }
        retreat(next, beta);
        if (pairs) count_pairs(alpha, next, weight, pairs, factors);
      }
      double most = kNever, sum = 0;
      for (ptrdiff_t j = 0; j < k_; ++j) most = larger(most, gamma_[j] = alpha[j] + beta[j]);
      for (ptrdiff_t j = 0; j < k_; ++j) sum += gamma_[j] = std::exp(gamma_[j] - most);
      for (ptrdiff_t j = 0; j < k_; ++j) gamma_[j] /= sum;
      visit(t, gamma_);
    }
    return true;
  }

 private:
  // A sum of numbers up to 1 that is at least this large has lost nothing that counts to underflow.
  static constexpr double kLeastSum = 1e-250;

  double emission(ptrdiff_t t, ptrdiff_t j) const {
    if (tags_ && tags_[t] != j && !(ignored_ && tags_[t] == *ignored_)) return kNever;
    return double(scores_.at(row_, t)[j]);
  }

  // to[j] = log of the sum over i of exp(from[i] + transition(i, j)); from's largest is 0.
  void advance(const double* from, double* to) {
    for (ptrdiff_t j = 0; j < k_; ++j) to[j] = 0;
    for (ptrdiff_t i = 0; i < k_; ++i) {
      const double p = std::exp(from[i]);
      if (p == 0) continue;
      const double* e = chain_.exp_from(i);
      for (ptrdiff_t j = 0; j < k_; ++j) to[j] += p * e[j];
    }
    for (ptrdiff_t j = 0; j < k_; ++j)
      to[j] = to[j] >= kLeastSum ? chain_.column(j) + std::log(to[j])
                                 : log_sum(k_, [&](ptrdiff_t i) { return from[i] + chain_.transition(i, j); });
  }

  // to[i] = log of the sum over j of exp(transition(i, j) + from[j]), less its largest.
  void retreat(const double* from, double* to) {
    double most = kNever;
    for (ptrdiff_t j = 0; j < k_; ++j) most = larger(most, from[j] + chain_.column(j));
    for (ptrdiff_t i = 0; i < k_; ++i) to[i] = 0;
    for (ptrdiff_t j = 0; j < k_; ++j) {
      const double p = d_[j] = most == kNever ? 0 : std::exp(from[j] + chain_.column(j) - most);
      if (p == 0) continue;
      const double* e = chain_.exp_to(j);
      for (ptrdiff_t i = 0; i < k_; ++i) to[i] += p * e[i];
    }
    double largest = kNever;
    for (ptrdiff_t i = 0; i < k_; ++i) {
      sums_[i] = to[i];
      to[i] = to[i] >= kLeastSum ? most + std::log(to[i])
                                 : log_sum(k_, [&](ptrdiff_t j) { return chain_.transition(i, j) + from[j]; });
      largest = larger(largest, to[i]);
    }
    if (largest != kNever)
      for (ptrdiff_t i = 0; i < k_; ++i) to[i] -= largest;
  }

  // Pair (i, j) has the probability exp(alpha[i] + transition(i, j) + next[j]) over the sum of all pairs'. retreat()
  // has left exp(next + column), over its largest, in d_, and its products with the rows of exp(transitions) in sums_.
  void count_pairs(const double* alpha, const double* next, double weight, double* pairs, double* factors) {
    double total = 0;
    for (ptrdiff_t i = 0; i < k_; ++i) total += sums_[i] * (gamma_[i] = std::exp(alpha[i]));
    if (total >= kLeastSum) {
      for (ptrdiff_t i = 0; i < k_; ++i) {
        const double scaled = weight * (gamma_[i] / total);
        if (scaled == 0) continue;
        for (ptrdiff_t j = 0; j < k_; ++j) factors[i * k_ + j] += scaled * d_[j];
      }
      return;
    }
    const auto pair = [&](ptrdiff_t i) { return alpha[i / k_] + chain_.transitions()[i] + next[i % k_]; };
    const double sum = log_sum(k_ * k_, pair);
    for (ptrdiff_t i = 0; i < k_ * k_; ++i) pairs[i] += weight * std::exp(pair(i) - sum);
  }

  const Chain& chain_;
  const ptrdiff_t k_, steps_;
  const Sequence<const T> scores_;
  const ptrdiff_t row_;
  const int64_t *const tags_, *const ignored_;
  Stop* const stop_;
  const ptrdiff_t every_;
  double *const alpha_, *const most_;
  double *const a_, *const b_, *const gamma_, *const d_, *const sums_;
};

}  // namespace recurra
