// Connectionist temporal classification (Graves et al. 2006): decoding.
#pragma once
#include <vector>

#include "device/device.h"

namespace recurra {

struct CtcHypothesis {
  std::vector<int64_t> labels;
  double log_probability;
};

// The labels of the most probable path; its probability.
template <class T>
std::vector<CtcHypothesis> ctc_greedy(const Device<T>&, const Batch&, ptrdiff_t symbols, ptrdiff_t blank,
                                      Sequence<const T> logits, Stop*);

// For each row the most probable label sequences that prefix beam search finds, at most `best` of them, with the
// probability of those of their paths that it has followed.
template <class T>
std::vector<std::vector<CtcHypothesis>> ctc_beam_search(const Device<T>&, const Batch&, ptrdiff_t symbols,
                                                        ptrdiff_t blank, ptrdiff_t beam_size, ptrdiff_t best,
                                                        Sequence<const T> logits, Stop*);

}  // namespace recurra
