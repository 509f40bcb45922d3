// What a linear-chain CRF says of unknown tags.
#include <algorithm>

#include "cpu/losses/crf_row.h"
#include "cpu/losses/steps.h"

namespace recurra {
namespace {

// f(row, memory of its thread: so many elements of M), for all rows.
template <class M, class F>
void for_each_row(const Batch& batch, const Chain& chain, size_t elements, Stop* stop, const F& f) {
  share_with_memory<M>(batch.rows, threads_for(chain.work(batch)), elements, [&](ptrdiff_t row, M* memory) {
    if (!(stop && stop->poll())) f(row, memory);
  });
}

// The best tag before each tag of each step, and the best tagging of a row.
template <class T>
class Viterbi {
 public:
  Viterbi(const Chain& chain, Sequence<const T> scores, ptrdiff_t row, ptrdiff_t steps, int32_t* before)
      : chain_(chain), k_(chain.tags()), scores_(scores), row_(row), steps_(steps), before_(before) {}

  // The tagging's score; 0 if it was told to stop, or if there are no steps.
  double run(int64_t* tags, Stop* stop) {
    std::vector<double> best(chain_.start(), chain_.start() + k_), next(best), chosen(best);
    const ptrdiff_t every = steps_between_polls(k_);
    double score = 0;
    for (ptrdiff_t t = 0; t < steps_; ++t) {
      if (t % every == 0 && stop && stop->poll()) return 0;
      if (t > 0) {
        extend(best.data(), next.data(), chosen.data(), before_ + t * k_);
        best.swap(next);
      }
      for (ptrdiff_t j = 0; j < k_; ++j) {
        best[size_t(j)] += double(scores_.at(row_, t)[j]);
        if (t == steps_ - 1) best[size_t(j)] += chain_.end()[j];
      }
      const double most = *std::max_element(best.begin(), best.end());
      if (most == kNever) return kNever;
      score += most;
      for (double& one : best) one -= most;
    }
    if (steps_ == 0) return 0;
    ptrdiff_t tag = std::max_element(best.begin(), best.end()) - best.begin();
    for (ptrdiff_t t = steps_ - 1; t >= 0; --t) {
      tags[t] = tag;
      if (t > 0) tag = before_[t * k_ + tag];
    }
    return score;
  }

 private:
  // Numbers of tags as doubles, like what they are chosen by: so the loop is vectorised.
  void extend(const double* best, double* next, double* chosen, int32_t* before) const {
    std::fill_n(next, k_, kNever);
    std::fill_n(chosen, k_, 0.0);
    for (ptrdiff_t i = 0; i < k_; ++i) {
      const double* transitions = chain_.transitions() + i * k_;
      for (ptrdiff_t j = 0; j < k_; ++j) {
        const double score = best[i] + transitions[j];
        const bool better = score > next[j];
        chosen[j] = better ? double(i) : chosen[j];
        next[j] = better ? score : next[j];
      }
    }
    std::copy_n(chosen, k_, before);
  }

  const Chain& chain_;
  const ptrdiff_t k_;
  const Sequence<const T> scores_;
  const ptrdiff_t row_, steps_;
  int32_t* const before_;
};

}  // namespace

template <class T>
void CpuDevice<T>::crf_viterbi(const Batch& batch, const Chain& chain, Sequence<const T> scores, int64_t* tags,
                               double* scores_of, Stop* stop) const {
  std::fill_n(tags, batch.rows * batch.steps, int64_t(0));
  for_each_row<int32_t>(batch, chain, size_t(longest_row(batch) * chain.tags()), stop,
                        [&](ptrdiff_t row, int32_t* before) {
                          Viterbi<T> one(chain, scores, row, batch.length(row), before);
                          scores_of[row] = one.run(tags + row * batch.steps, stop);
                        });
}

template <class T>
void CpuDevice<T>::crf_marginals(const Batch& batch, const Chain& chain, Sequence<const T> scores,
                                 Sequence<T> marginals, Stop* stop) const {
  const ptrdiff_t k = chain.tags();
  for_each_row<double>(batch, chain, CrfRow<T>::scratch(chain, longest_row(batch)), stop,
                       [&](ptrdiff_t row, double* memory) {
                         if (batch.length(row) == 0) return;
                         CrfRow<T> one(chain, scores, row, batch.length(row), nullptr, nullptr, memory, stop);
                         if (!one.forward()) return;
                         one.backward(0, nullptr, nullptr, [&](ptrdiff_t t, const double* gamma) {
                           for (ptrdiff_t j = 0; j < k; ++j) marginals.at(row, t)[j] = T(gamma[j]);
                         });
                       });
  zero_padding(batch, k, marginals);
}

#define RECURRA_INSTANTIATE(T)                                                                                     \
  template void CpuDevice<T>::crf_viterbi(const Batch&, const Chain&, Sequence<const T>, int64_t*, double*, Stop*) \
      const;                                                                                                       \
  template void CpuDevice<T>::crf_marginals(const Batch&, const Chain&, Sequence<const T>, Sequence<T>, Stop*) const
RECURRA_INSTANTIATE(float);
RECURRA_INSTANTIATE(double);
#undef RECURRA_INSTANTIATE

}  // namespace recurra
