// Greedy and beam search: generates sequences token by token, in one native call for all rows and steps.
#pragma once
#include <memory>
#include <vector>

#include "layers/layer.h"

namespace recurra {

// At each step, the `beam` best extensions of a row's hypotheses are kept; those that end leave the beam, and those
// open after `max_steps` are cut there. Hypotheses are ranked by the sum of their log-probabilities over ((5 + length)
// / 6)^length_penalty (Wu et al. 2016). Ties go to the extension of the earlier hypothesis, then to the smaller token.
// A row's search stops once no open hypothesis can be among its best. A beam of 1 is greedy search.
struct SearchOptions {
  int64_t start, end;  // negative end: none
  ptrdiff_t max_steps, beam, best;
  double length_penalty;
};

template <class T>
struct Hypothesis {
  double score;
  std::vector<int64_t> tokens;  // with the end token, without the start token
  std::vector<T> log_probs;     // of each token
  std::vector<T> weights;       // of each token, over the memory's steps
};

// Layers in sequence; the first reads tokens, the last gives a score for each next token; one may be a decoder that
// attends to a memory.
template <class T>
class Search {
 public:
  // Throws std::invalid_argument for layers that do not fit.
  explicit Search(std::vector<std::shared_ptr<Layer<T>>> layers);

  const std::vector<StateSpec>& states() const { return states_; }
  ptrdiff_t state_size() const { return state_size_; }
  ptrdiff_t memory_size() const { return memory_size_; }  // 0: no layer has a memory
  double work(ptrdiff_t rows, const Batch& memory, const SearchOptions&) const;
  const std::vector<const Version*>& versions() const { return versions_; }
  // Throws std::invalid_argument for options that do not fit, and if a memory is missing or superfluous.
  void check_call(ptrdiff_t rows, bool has_memory, const SearchOptions&) const;

  // The best hypotheses of each row, best first. Rows are searched independently. Requires a passed check_call().
  // Throws WeightsMoved as Program::forward does.
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
