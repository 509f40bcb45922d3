// Linear-chain conditional random fields (Lafferty et al. 2001): the loss, the best tagging, the marginals.
#pragma once
#include <vector>

#include "losses/losses.h"

namespace recurra {

// The scores that all rows share: of tag i followed by tag j, of the first and of the last tag; -infinity forbids. Sums
// over tags are products with exp(transitions), each column divided by its largest element, wherever these do not
// underflow.
class Chain {
 public:
  Chain(ptrdiff_t tags, std::vector<double> transitions, std::vector<double> start, std::vector<double> end);

  ptrdiff_t tags() const { return tags_; }
  ptrdiff_t parameters() const { return tags_ * (tags_ + 2); }
  // Operations of a pass over a batch, roughly.
  double work(const Batch& batch) const { return double(batch.tokens()) * double(tags_ * (tags_ + 8)); }
  double transition(ptrdiff_t from, ptrdiff_t to) const { return transitions_[size_t(from * tags_ + to)]; }
  const double* transitions() const { return transitions_.data(); }
  const double* start() const { return start_.data(); }
  const double* end() const { return end_.data(); }
  const double* exp_from(ptrdiff_t from) const { return exp_.data() + from * tags_; }       // over `to`
  const double* exp_to(ptrdiff_t to) const { return exp_transposed_.data() + to * tags_; }  // over `from`
  double column(ptrdiff_t to) const { return columns_[size_t(to)]; }                        // its largest element

 private:
  ptrdiff_t tags_;
  std::vector<double> transitions_, start_, end_, exp_, exp_transposed_, columns_;
};

// The sum of -log p(tags) over the valid steps' rows. Tags must lie in [0, tags); at steps of the label `ignored`
// (null: there are none) every tag is possible, and summed over. A row's weight is that of its first step. The gradient
// of the chain's scores is added up in `chain_gradient`: transitions, start, end (null: neither gradient is wanted).
template <class T>
double crf(const LossBatch&, const Chain&, Sequence<const T> scores, const int64_t* tags, const int64_t* ignored,
           Sequence<T> gradient, double* chain_gradient, Stop*);

// Each row's tagging of the highest score: (row, step), 0 past the lengths; of equal ones the lower tag, the last step
// first. `scores_of` [rows] gets their scores, -infinity where every tagging is forbidden.
template <class T>
void crf_viterbi(const Batch&, const Chain&, Sequence<const T> scores, int64_t* tags, double* scores_of, Stop*);

// The probability of each tag at each step; zeros past the lengths, NaN in rows in which every tagging is forbidden.
template <class T>
void crf_marginals(const Batch&, const Chain&, Sequence<const T> scores, Sequence<T> marginals, Stop*);

}  // namespace recurra
