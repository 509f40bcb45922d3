// Sequences generated token by token, one native call for all rows and steps: greedy and beam search.
#pragma once
#include <memory>
#include <vector>

#include "layers/layer.h"

namespace recurra {

// At each step the `beam` best extensions of a row's hypotheses are kept; those that end leave the beam, and those that
// do not by `max_steps` are taken as they are. Hypotheses are ranked by the sum of their log-probabilities over
// ((5 + length) / 6)^length_penalty (Wu et al. 2016). Of equals the one comes first whose hypothesis did, then the one
// with the smaller token. A row's search stops as soon as nothing that is open can still be among its best: with a beam
// of 1 it is greedy search.
struct SearchOptions {
  int64_t start, end;  // end below 0: none
  ptrdiff_t max_steps, beam, best;
  double length_penalty;
};

template <class T>
struct Hypothesis {
  double score;
  std::vector<int64_t> tokens;  // the end among them, the start not
  std::vector<T> log_probs;     // of each
  std::vector<T> weights;       // of each, over the memory's steps
};

// Layers in a row, the first reading tokens, the last giving a score for each token that may follow; one of them may
// be a decoder that looks at a memory.
template <class T>
class Search {
 public:
  // Throws std::invalid_argument for layers that do not fit.
  explicit Search(std::vector<std::shared_ptr<Layer<T>>> layers);

  const std::vector<StateSpec>& states() const { return states_; }
  ptrdiff_t state_size() const { return state_size_; }
  ptrdiff_t memory_size() const { return memory_size_; }  // 0: no layer looks at one
  double work(ptrdiff_t rows, const Batch& memory, const SearchOptions&) const;
  const std::vector<const Version*>& versions() const { return versions_; }
  // Throws std::invalid_argument for options that do not fit, and where a memory is missing or too much.
  void check_call(ptrdiff_t rows, bool has_memory, const SearchOptions&) const;

  // The best hypotheses of each row, best first. Each row's search is its own, whatever others do. check_call() has
  // passed. Throws WeightsMoved as Program::forward does.
  std::vector<std::vector<Hypothesis<T>>> run(ptrdiff_t rows, StateRows<const T> state, const OtherInput<T>* memory,
                                              const SearchOptions&, int threads, Stop*) const;

 private:
  class Rows;

  std::vector<std::shared_ptr<Layer<T>>> layers_;
  std::vector<StateSpec> states_;
  std::vector<const Version*> versions_;
  ptrdiff_t state_size_ = 0, memory_size_ = 0, vocabulary_ = 0;
};

}  // namespace recurra
