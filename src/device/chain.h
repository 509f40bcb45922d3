// The transition scores of a linear-chain conditional random field (Lafferty et al. 2001).
#pragma once
#include <vector>

#include "device/batch.h"

namespace recurra {

// The larger of the two; NaN is larger than any number.
inline double larger(double most, double x) { return x > most || x != x ? x : most; }

// The scores shared by all rows: of tag i followed by tag j, of the first and of the last tag; -infinity forbids. Sums
// over tags are products with exp(transitions), each column divided by its largest element, unless these underflow.
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
  double column(ptrdiff_t to) const { return columns_[size_t(to)]; }                        // its maximum

 private:
  ptrdiff_t tags_;
  std::vector<double> transitions_, start_, end_, exp_, exp_transposed_, columns_;
};

}  // namespace recurra
