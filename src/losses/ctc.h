// Connectionist temporal classification (Graves et al. 2006): the loss of unaligned targets, and decoding.
#pragma once
#include <vector>

#include "losses/losses.h"

namespace recurra {

// Rows of labels, each ended by a negative number or by the row's end.
struct Targets {
  const int64_t* data;
  ptrdiff_t width;
  const int64_t* row(ptrdiff_t r) const { return data + r * width; }
  ptrdiff_t labels(ptrdiff_t r) const;
};

// The sum of -log p(target) over rows, log-softmax included. Targets must lie in [0, symbols) and not hold the blank. A
// target of probability 0 adds nothing to sum and gradient; `feasible` says, for each row, whether it is another one. A
// row's weight is that of its first step.
template <class T>
double ctc(const LossBatch&, ptrdiff_t symbols, ptrdiff_t blank, Sequence<const T> logits, const Targets&,
           Sequence<T> gradient, bool* feasible, Stop*);

struct CtcHypothesis {
  std::vector<int64_t> labels;
  double log_probability;
};

// The labels of the most probable path; its probability.
template <class T>
std::vector<CtcHypothesis> ctc_greedy(const Batch&, ptrdiff_t symbols, ptrdiff_t blank, Sequence<const T> logits,
                                      Stop*);

// For each row the most probable label sequences that prefix beam search finds, at most `best` of them, with the
// probability of those of their paths that it has followed.
template <class T>
std::vector<std::vector<CtcHypothesis>> ctc_beam_search(const Batch&, ptrdiff_t symbols, ptrdiff_t blank,
                                                        ptrdiff_t beam_size, ptrdiff_t best, Sequence<const T> logits,
                                                        Stop*);

}  // namespace recurra
