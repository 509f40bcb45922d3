#include "losses/ctc_decode.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "platform/tasks.h"

namespace recurra {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

double log_add(double a, double b) {
  const double most = std::max(a, b);
  return most == kNever ? kNever : most + std::log1p(std::exp(std::min(a, b) - most));
}

// Runs f(row) for all rows, on several threads if there is enough work.
template <class F>
void for_each_row(const Batch& batch, double work, Stop* stop, const F& f) {
  constexpr double kParallelElements = 1 << 15;  // below, the caller's thread works alone
  for_each_task(batch.rows, threads_for(work, kParallelElements), [&](ptrdiff_t row) {
    if (!(stop && stop->poll())) f(row);
  });
}

// A tree of label sequences that share prefixes; equal sequences are the same node.
class PrefixTree {
 public:
  static constexpr ptrdiff_t kNone = -1, kRoot = 0;
  PrefixTree() { nodes_.push_back({kNone, kNone, kNone, kNone}); }

  ptrdiff_t child(ptrdiff_t node, ptrdiff_t label) {
    ptrdiff_t found = nodes_[size_t(node)].first_child;
    while (found != kNone && nodes_[size_t(found)].label != label) found = nodes_[size_t(found)].sibling;
    if (found != kNone) return found;
    found = ptrdiff_t(nodes_.size());
    nodes_.push_back({node, label, kNone, nodes_[size_t(node)].first_child});
    nodes_[size_t(node)].first_child = found;
    return found;
  }
  ptrdiff_t parent(ptrdiff_t node) const { return nodes_[size_t(node)].parent; }
  ptrdiff_t label(ptrdiff_t node) const { return nodes_[size_t(node)].label; }
  size_t size() const { return nodes_.size(); }
  std::vector<int64_t> labels(ptrdiff_t node) const {
    std::vector<int64_t> result;
    for (; node != kRoot; node = parent(node)) result.push_back(label(node));
    std::reverse(result.begin(), result.end());
    return result;
  }

 private:
  struct Node {
    ptrdiff_t parent, label, first_child, sibling;
  };
  std::vector<Node> nodes_;
};

constexpr ptrdiff_t kMostBeams = ptrdiff_t(1) << 48;  // more than fit any memory; twice as many do not overflow

// A prefix, with the log-probabilities of its paths so far: of those that end in a blank, of those that end in its last
// label, and of both.
struct Beam {
  ptrdiff_t node;
  double blank, label, total;
};

// The prefix of `beam`, or, unless `label` is kNone, its extension by `label`.
struct Candidate {
  double score;
  ptrdiff_t order;  // of equal scores, the first found wins
  ptrdiff_t beam, label;
  bool operator<(const Candidate& other) const {
    return score != other.score ? score > other.score : order < other.order;
  }
};

// Prefix beam search of one row (Graves 2012; Hannun et al. 2014).
class BeamSearch {
 public:
  BeamSearch(ptrdiff_t symbols, ptrdiff_t blank, ptrdiff_t size)
      : symbols_(symbols),
        blank_(blank),
        size_(std::min(size, kMostBeams)),
        beams_{{PrefixTree::kRoot, 0, kNever, 0}} {}

  void step(const std::vector<double>& log_p) {
    place_of_.resize(tree_.size(), PrefixTree::kNone);
    const ptrdiff_t n = ptrdiff_t(beams_.size());
    for (ptrdiff_t b = 0; b < n; ++b) place_of_[size_t(beams_[size_t(b)].node)] = b;
    stay(log_p);
    extend(log_p);
    for (const Beam& beam : beams_) place_of_[size_t(beam.node)] = PrefixTree::kNone;
    std::sort(chosen_.begin(), chosen_.end());
    next_.clear();
    for (const Candidate& one : chosen_) {
      if (one.label == PrefixTree::kNone)
        next_.push_back(stayed_[size_t(one.beam)]);
      else
        next_.push_back({tree_.child(beams_[size_t(one.beam)].node, one.label), kNever, one.score, one.score});
    }
    beams_.swap(next_);
  }

  std::vector<CtcHypothesis> best(ptrdiff_t n) const {
    std::vector<CtcHypothesis> found;
    for (const Beam& beam : beams_) found.push_back({tree_.labels(beam.node), beam.total});
    std::sort(found.begin(), found.end(), [](const CtcHypothesis& a, const CtcHypothesis& b) {
      return a.log_probability != b.log_probability ? a.log_probability > b.log_probability : a.labels < b.labels;
    });
    if (ptrdiff_t(found.size()) > n) found.resize(size_t(n));
    return found;
  }

 private:
  // The log-probability of the paths that `label` can extend: after an equal label, only those that end in a blank.
  double before(const Beam& beam, ptrdiff_t label) const {
    return tree_.label(beam.node) == label ? beam.blank : beam.total;
  }

  // Candidates that repeat a prefix of the beam: by a blank, by its last label again, or, if the prefix without its
  // last label is in the beam too, by extending that.
  void stay(const std::vector<double>& log_p) {
    stayed_.clear();
    chosen_.clear();
    order_ = 0;
    extended_.assign(beams_.size() * size_t(symbols_), false);
    for (const Beam& beam : beams_) {
      Beam now = {beam.node, beam.total + log_p[size_t(blank_)], kNever, kNever};
      if (beam.node != PrefixTree::kRoot) {
        const ptrdiff_t label = tree_.label(beam.node), parent = place_of_[size_t(tree_.parent(beam.node))];
        now.label = beam.label;
        if (parent != PrefixTree::kNone) {
          now.label = log_add(now.label, before(beams_[size_t(parent)], label));
          extended_[size_t(parent * symbols_ + label)] = true;
        }
        now.label += log_p[size_t(label)];
      }
      now.total = log_add(now.blank, now.label);
      offer({now.total, 0, ptrdiff_t(stayed_.size()), PrefixTree::kNone});
      stayed_.push_back(now);
    }
  }

  // Tries the most probable labels first, so that a beam is done at the first label that is not good enough. 2 * size_
  // labels suffice: at most `size_` extensions of a beam are kept, `size_ - 1` others may be in the beam already, and
  // one repeats the last label.
  void extend(const std::vector<double>& log_p) {
    ranked_.clear();
    for (ptrdiff_t label = 0; label < symbols_; ++label)
      if (label != blank_) ranked_.push_back(label);
    const auto end = ranked_.begin() + std::min(ptrdiff_t(ranked_.size()), 2 * size_);
    std::partial_sort(ranked_.begin(), end, ranked_.end(), [&](ptrdiff_t a, ptrdiff_t b) {
      return log_p[size_t(a)] != log_p[size_t(b)] ? log_p[size_t(a)] > log_p[size_t(b)] : a < b;
    });
    for (ptrdiff_t b = 0; b < ptrdiff_t(beams_.size()); ++b) {
      const Beam& beam = beams_[size_t(b)];
      for (auto label = ranked_.begin(); label != end && beam.total + log_p[size_t(*label)] > least(); ++label)
        if (!extended_[size_t(b * symbols_ + *label)])
          offer({before(beam, *label) + log_p[size_t(*label)], 0, b, *label});
    }
  }

  bool is_full() const { return ptrdiff_t(chosen_.size()) == size_; }
  // The score that a candidate must exceed.
  double least() const { return is_full() ? chosen_.front().score : kNever; }
  // Keeps the `size_` best candidates, in a heap with the worst at its front. Impossible ones are never kept.
  void offer(Candidate one) {
    if (!(one.score > least())) return;
    one.order = order_++;
    if (is_full()) {
      std::pop_heap(chosen_.begin(), chosen_.end());
      chosen_.pop_back();
    }
    chosen_.push_back(one);
    std::push_heap(chosen_.begin(), chosen_.end());
  }

  const ptrdiff_t symbols_, blank_, size_;
  PrefixTree tree_;
  std::vector<Beam> beams_, stayed_, next_;
  std::vector<Candidate> chosen_;
  std::vector<ptrdiff_t> ranked_;    // labels
  std::vector<ptrdiff_t> place_of_;  // index in the beam, of each node
  std::vector<bool> extended_;       // [beam][label]: whether the extension is in the beam already
  ptrdiff_t order_ = 0;
};

}  // namespace

template <class T>
std::vector<CtcHypothesis> ctc_greedy(const Device<T>& device, const Batch& batch, ptrdiff_t symbols, ptrdiff_t blank,
                                      Sequence<const T> logits, Stop* stop) {
  std::vector<CtcHypothesis> results(size_t(batch.rows));
  for_each_row(batch, double(batch.tokens()) * double(symbols), stop, [&](ptrdiff_t row) {
    std::vector<double> log_p(static_cast<size_t>(symbols));
    CtcHypothesis result = {{}, 0};
    ptrdiff_t last = blank;
    for (ptrdiff_t step = 0; step < batch.length(row); ++step) {
      if (stop && stop->poll()) return;
      device.log_probabilities(logits.at(row, step), log_p.data(), symbols);
      const ptrdiff_t best = std::max_element(log_p.begin(), log_p.end()) - log_p.begin();
      result.log_probability += log_p[size_t(best)];
      if (best != blank && best != last) result.labels.push_back(best);
      last = best;
    }
    results[size_t(row)] = std::move(result);
  });
  return results;
}

template <class T>
std::vector<std::vector<CtcHypothesis>> ctc_beam_search(const Device<T>& device, const Batch& batch, ptrdiff_t symbols,
                                                        ptrdiff_t blank, ptrdiff_t beam_size, ptrdiff_t best,
                                                        Sequence<const T> logits, Stop* stop) {
  std::vector<std::vector<CtcHypothesis>> results(size_t(batch.rows));
  for_each_row(batch, double(batch.tokens()) * double(symbols), stop, [&](ptrdiff_t row) {
    std::vector<double> log_p(static_cast<size_t>(symbols));
    BeamSearch search(symbols, blank, beam_size);
    for (ptrdiff_t step = 0; step < batch.length(row); ++step) {
      if (stop && stop->poll()) return;
      device.log_probabilities(logits.at(row, step), log_p.data(), symbols);
      search.step(log_p);
    }
    results[size_t(row)] = search.best(best);
  });
  return results;
}

#define RECURRA_INSTANTIATE(T)                                                                         \
  template std::vector<CtcHypothesis> ctc_greedy(const Device<T>&, const Batch&, ptrdiff_t, ptrdiff_t, \
                                                 Sequence<const T>, Stop*);                            \
  template std::vector<std::vector<CtcHypothesis>> ctc_beam_search(                                    \
      const Device<T>&, const Batch&, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, Sequence<const T>, Stop*)
RECURRA_INSTANTIATE(float);
RECURRA_INSTANTIATE(double);
#undef RECURRA_INSTANTIATE

}  // namespace recurra
