// Connectionist temporal classification (Graves et al. 2006): decoding.
#pragma once
#include <vector>

#include "device/device.h"

namespace recurra {

struct CtcHypothesis {
  std::vector<int64_t> labels;
  double log_probability;
};

// For each row, the labels of the most probable path, and its probability.
template <class T>
std::vector<CtcHypothesis> ctc_greedy(const Device<T>&, const Batch&, ptrdiff_t symbols, ptrdiff_t blank,
                                      Sequence<const T> logits, Stop*);

// For each row, the most probable label sequences found by prefix beam search, at most `best`, with the probability
// summed over the paths that the search followed.
template <class T>
std::vector<std::vector<CtcHypothesis>> ctc_beam_search(const Device<T>&, const Batch&, ptrdiff_t symbols,
                                                        ptrdiff_t blank, ptrdiff_t beam_size, ptrdiff_t best,
                                                        Sequence<const T> logits, Stop*);

}  // namespace recurra
