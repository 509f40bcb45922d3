// The loss of a linear-chain CRF: rows side by side.
#include <algorithm>
#include <numeric>

#include "cpu/losses/crf_row.h"
#include "cpu/losses/steps.h"

namespace recurra {
namespace {

// Rows whose gradients of the chain are added up together: the order of the sums follows from the number of rows alone.
constexpr ptrdiff_t kGroups = 16;

bool any_unknown(const int64_t* tags, ptrdiff_t steps, const int64_t* ignored) {
  return ignored && std::find(tags, tags + steps, *ignored) != tags + steps;
}

// The gradient of the chain's scores over some rows. `factors` are still to be multiplied by exp(transitions).
struct ChainGradient {
  double *transitions, *start, *end, *factors;
  static size_t size(ptrdiff_t tags) { return size_t(2 * tags * (tags + 1)); }
  ChainGradient(double* memory, ptrdiff_t tags)
      : transitions(memory), start(memory + tags * tags), end(start + tags), factors(end + tags) {
    std::fill_n(memory, size(tags), 0.0);
  }
};

template <class T>
class CrfRows {
 public:
  explicit CrfRows(const CrfLoss<T>& call)
      : batch_(*call.batch),
        chain_(*call.chain),
        scores_(call.scores),
        all_tags_(call.tags),
        ignored_(call.ignored),
        gradient_(call.gradient),
        stop_(call.batch->stop) {}

  static size_t scratch(const Chain& chain, ptrdiff_t steps) {
    return CrfRow<T>::scratch(chain, steps) + size_t(steps);
  }

  // A row's loss; its gradients are added. Nothing of use once it was told to stop.
  double row(ptrdiff_t r, ChainGradient* sums, double* scratch) const {
    const ptrdiff_t steps = batch_.length(r), k = chain_.tags();
    const double weight = batch_.weight(r, 0);
    if (weight == 0) {
      for (ptrdiff_t t = 0; sums && t < steps; ++t) std::fill_n(gradient_.at(r, t), k, T(0));
      return 0;
    }
    if (steps == 0) return 0;
    const int64_t* tags = all_tags_ + r * batch_.steps;
    double *kept = scratch, *memory = scratch + steps;
    const bool partly = any_unknown(tags, steps, ignored_);
    CrfRow<T> every(chain_, scores_, r, steps, nullptr, nullptr, memory, stop_);
    if (!every.forward()) return 0;
    for (ptrdiff_t t = 0; t < steps; ++t) kept[t] = every.most(t);
    double loss = every.last();
    if (sums && !add(every, weight, *sums, r, steps,
                     [&](ptrdiff_t t, ptrdiff_t j) { return partly || tags[t] != j ? 0.0 : weight; }))
      return 0;
    if (!partly) {
      for (ptrdiff_t t = 0; t < steps; ++t) loss += kept[t] - known(r, t, tags, steps);
      if (sums) subtract_known(tags, steps, weight, *sums);
      return weight * loss;
    }
    CrfRow<T> possible(chain_, scores_, r, steps, tags, ignored_, memory, stop_);
    if (!possible.forward()) return 0;
    for (ptrdiff_t t = 0; t < steps; ++t) loss += kept[t] - possible.most(t);
    loss -= possible.last();
    if (sums) add_on_top(possible, -weight, *sums, r, steps);
    return weight * loss;
  }

 private:
  // Writes weight times the probability of each tag, less what `less` says, to the row's gradient.
  template <class F>
  bool add(CrfRow<T>& row, double weight, ChainGradient& sums, ptrdiff_t r, ptrdiff_t steps, const F& less) const {
    return row.backward(weight, sums.transitions, sums.factors, [&](ptrdiff_t t, const double* gamma) {
      T* to = gradient_.at(r, t);
      for (ptrdiff_t j = 0; j < chain_.tags(); ++j) to[j] = T(weight * gamma[j] - less(t, j));
      add_ends(weight, t, steps, gamma, sums);
    });
  }
  void add_on_top(CrfRow<T>& row, double weight, ChainGradient& sums, ptrdiff_t r, ptrdiff_t steps) const {
    row.backward(weight, sums.transitions, sums.factors, [&](ptrdiff_t t, const double* gamma) {
      T* to = gradient_.at(r, t);
      for (ptrdiff_t j = 0; j < chain_.tags(); ++j) to[j] += T(weight * gamma[j]);
      add_ends(weight, t, steps, gamma, sums);
    });
  }
  void add_ends(double weight, ptrdiff_t t, ptrdiff_t steps, const double* gamma, ChainGradient& sums) const {
    for (ptrdiff_t j = 0; t == 0 && j < chain_.tags(); ++j) sums.start[j] += weight * gamma[j];
    for (ptrdiff_t j = 0; t == steps - 1 && j < chain_.tags(); ++j) sums.end[j] += weight * gamma[j];
  }

  // What step t adds to the score of a tagging that is known.
  double known(ptrdiff_t r, ptrdiff_t t, const int64_t* tags, ptrdiff_t steps) const {
    double score = double(scores_.at(r, t)[tags[t]]);
    score += t == 0 ? chain_.start()[tags[0]] : chain_.transition(tags[t - 1], tags[t]);
    return t == steps - 1 ? score + chain_.end()[tags[t]] : score;
  }
  void subtract_known(const int64_t* tags, ptrdiff_t steps, double weight, ChainGradient& sums) const {
    sums.start[tags[0]] -= weight;
    sums.end[tags[steps - 1]] -= weight;
    for (ptrdiff_t t = 1; t < steps; ++t) sums.transitions[tags[t - 1] * chain_.tags() + tags[t]] -= weight;
  }

  const LossBatch& batch_;
  const Chain& chain_;
  const Sequence<const T> scores_;
  const int64_t *const all_tags_, *const ignored_;
  const Sequence<T> gradient_;
  Stop* const stop_;
};

}  // namespace

template <class T>
double CpuDevice<T>::crf(const CrfLoss<T>& call) const {
  const CrfRows<T> loss(call);
  const LossBatch& batch = *call.batch;
  const Chain& chain = *call.chain;
  double* const chain_gradient = call.chain_gradient;
  const ptrdiff_t k = chain.tags(), groups = std::min(kGroups, batch.rows);
  Arena arena;
  std::vector<ChainGradient> sums;
  for (ptrdiff_t g = 0; chain_gradient && g < groups; ++g)
    sums.emplace_back(arena.take<double>(ChainGradient::size(k)), k);
  std::vector<double> losses(size_t(batch.rows));
  const size_t scratch = CrfRows<T>::scratch(chain, longest_row(batch));
  share_with_memory<double>(groups, threads_for(chain.work(batch)), scratch, [&](ptrdiff_t group, double* memory) {
    for (ptrdiff_t r = group; r < batch.rows && !(batch.stop && batch.stop->poll()); r += groups)
      losses[size_t(r)] = loss.row(r, chain_gradient ? &sums[size_t(group)] : nullptr, memory);
  });
  if (chain_gradient) {
    std::fill_n(chain_gradient, chain.parameters(), 0.0);
    for (const ChainGradient& one : sums) {
      for (ptrdiff_t i = 0; i < chain.parameters(); ++i) chain_gradient[i] += one.transitions[i];
      for (ptrdiff_t i = 0; i < k * k; ++i) chain_gradient[i] += one.factors[i] * chain.exp_from(0)[i];
    }
    zero_padding(batch, k, call.gradient);
  }
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

template double CpuDevice<float>::crf(const CrfLoss<float>&) const;
template double CpuDevice<double>::crf(const CrfLoss<double>&) const;

}  // namespace recurra
