#include "search/search.h"

#include <algorithm>
#include <cmath>

#include "layers/attention_decoder.h"
#include "platform/tasks.h"

namespace recurra {
namespace {

constexpr const char* kOwner = "search";

double length_penalty(ptrdiff_t length, double power) { return std::pow((5 + double(length)) / 6, power); }

// An extension of a hypothesis by a token.
struct Extension {
  double sum;  // of log-probabilities
  ptrdiff_t parent;
  int64_t token;
  bool before(const Extension& other) const {
    if (sum != other.sum) return sum > other.sum;
    return parent != other.parent ? parent < other.parent : token < other.token;
  }
};

// The best few of many extensions, best first. They must be added in the order that ranks equals.
class Best {
 public:
  explicit Best(size_t most) : most_(most) {}
  void clear() { kept_.clear(); }
  void add(const Extension& e) {
    if (kept_.size() == most_ && !(e.sum > kept_.back().sum)) return;
    const auto place =
        std::upper_bound(kept_.begin(), kept_.end(), e, [](const auto& a, const auto& b) { return a.before(b); });
    if (kept_.size() == most_) kept_.pop_back();
    kept_.insert(place, e);
  }
  const std::vector<Extension>& kept() const { return kept_; }

 private:
  size_t most_;
  std::vector<Extension> kept_;
};

}  // namespace

template <class T>
Search<T>::Search(std::vector<std::shared_ptr<Layer<T>>> layers) : layers_(std::move(layers)) {
  check(!layers_.empty() && layers_.front()->takes_tokens(), kOwner,
        "the first layer must read tokens; begin with an Embedding");
  ptrdiff_t features = 0;
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer<T>& layer = *layers_[i];
    const auto* decoder = dynamic_cast<const AttentionDecoder<T>*>(&layer);
    check(i == 0 || !layer.takes_tokens(), kOwner, "layer ", i, " takes tokens; only the first layer can");
    check(decoder || (layer.inputs() == 1 && layer.streamable()), kOwner, "layer ", i, " (", layer.kind(),
          ") cannot run step by step with one input, expected layers that can");
    check(!decoder || !memory_size_, kOwner, "layer ", i, " is a second attention decoder, expected one");
    check(i == 0 || !layer.input_size() || layer.input_size() == features, kOwner, "layer ", i, " (", layer.kind(),
          ") takes ", layer.input_size(), " features, but the layer before it gives ", features);
    if (decoder) memory_size_ = decoder->memory_size();
    if (layer.output_size()) features = layer.output_size();
    for (const StateSpec& spec : layer.states()) states_.push_back(spec);
    for (const Version* one : layer.versions()) versions_.push_back(one);
    state_size_ += layer.state_size();
  }
  vocabulary_ = features;
  check(vocabulary_ <= layers_.front()->input_size(), kOwner, "the last layer gives ", vocabulary_,
        " scores, expected at most ", layers_.front()->input_size(), ", the tokens that the first one knows");
}

template <class T>
double Search<T>::work(ptrdiff_t rows, const Batch& memory, const SearchOptions& options) const {
  double step = 0;
  const double looked_at = double(memory.tokens()) / double(std::max<ptrdiff_t>(memory.rows, 1));
  for (const auto& layer : layers_) step += layer->work() + layer->work_per_memory_step() * looked_at;
  return step * double(rows) * double(options.beam) * double(options.max_steps);
}

template <class T>
void Search<T>::check_call(ptrdiff_t rows, bool has_memory, const SearchOptions& o) const {
  const ptrdiff_t known = layers_.front()->input_size();
  check(o.start >= 0 && o.start < known, kOwner, "start is ", o.start, ", expected a token from 0 to ", known - 1);
  check(o.end < vocabulary_, kOwner, "end is ", o.end, ", expected a token from 0 to ", vocabulary_ - 1);
  check(o.max_steps >= 1, kOwner, "max_steps is ", o.max_steps, ", expected 1 or more");
  check(o.beam >= 1 && o.beam <= 4096, kOwner, "beam_size is ", o.beam, ", expected 1 to 4096");
  check(o.best >= 1 && o.best <= o.beam, kOwner, "n_best is ", o.best, ", expected 1 to ", o.beam, ", the beam_size");
  check(o.length_penalty >= 0, kOwner, "length_penalty is ", o.length_penalty, ", expected 0 or more");
  check(has_memory || !memory_size_, kOwner, "got no memory, which the attention decoder looks at; give it");
  check(!has_memory || memory_size_, kOwner, "got a memory, but no layer looks at one; leave it out");
  const double elements = double(rows) * double(o.beam) * double(std::max(vocabulary_, state_size_));
  check(elements < 0x1p48, kOwner, rows, " rows with a beam of ", o.beam, " are too many, expected fewer");
}

// The search of a range of rows on one thread.
template <class T>
class Search<T>::Rows {
 public:
  Rows(const Search& search, ptrdiff_t rows, StateRows<const T> state, const OtherInput<T>* memory,
       const SearchOptions& options)
      : search_(search),
        device_(search.layers_.front()->device()),
        options_(options),
        rows_(rows),
        slots_(rows * options.beam),
        memory_steps_(memory ? memory->batch.steps : 0),
        memory_(search.layers_.front()->devices()),
        best_(size_t(options.beam)),
        finished_(size_t(rows)) {
    const ptrdiff_t size = search.state_size_;
    for (StateRows<T>& s : states_) s = {memory_.device.take<T>(size_t(slots_ * size)), size};
    if (state.data)
      repeat_rows(device_, rows, options.beam, size, state, states_[0].data);
    else
      fill_rows(device_, slots_, size, T(0), states_[0]);
    weights_ = memory_.device.take<T>(size_t(slots_ * memory_steps_));
    prepare(memory);
    log_probs_ = memory_.device.take<T>(size_t(slots_ * search.vocabulary_));
    tokens_.assign(size_t(slots_), options.start);
    sums_.assign(size_t(slots_), 0);
    open_.assign(size_t(rows), 1);
  }

  void run(Stop* stop) {
    for (ptrdiff_t step = 0; step < options_.max_steps; ++step) {
      if (std::all_of(open_.begin(), open_.end(), [](ptrdiff_t n) { return n == 0; })) return;
      if (stop && stop->poll()) return;
      take_step(stop);
      if (stop && stop->poll()) return;
      history_.push_back({});
      Step& now = history_.back();
      now.parents.assign(size_t(slots_), 0);
      now.tokens.assign(size_t(slots_), options_.start);
      now.log_probs.assign(size_t(slots_), T(0));
      {
        const HostAccess access(devices());
        now.weights.assign(weights_, weights_ + slots_ * memory_steps_);
      }
      for (ptrdiff_t row = 0; row < rows_; ++row) {
        if (stop && stop->poll()) return;
        if (open_[size_t(row)]) extend(row, step);
      }
    }
  }

  std::vector<Hypothesis<T>> best(ptrdiff_t row) const {
    std::vector<Hypothesis<T>> list;
    for (const Finished& f : finished_[size_t(row)]) list.push_back(trace(f));
    return list;
  }

 private:
  // The extension that each slot took at a step; `weights` are indexed by the parents' slots.
  struct Step {
    std::vector<ptrdiff_t> parents;
    std::vector<int64_t> tokens;
    std::vector<T> log_probs, weights;
  };
  struct Finished {
    double score;
    ptrdiff_t step, parent;  // the slot that the last token extends
    int64_t token;
    T log_prob;
  };
  struct Part {
    std::unique_ptr<LayerStep<T>> step;
    ptrdiff_t state;  // where its state begins in a row
    T* y;
    ptrdiff_t width;
  };

  void prepare(const OtherInput<T>* memory) {
    ptrdiff_t features = 1, offset = 0;
    for (const auto& layer : search_.layers_) {
      Part part = {};
      part.state = offset;
      offset += layer->state_size();
      if (auto* decoder = dynamic_cast<AttentionDecoder<T>*>(layer.get()))
        part.step = decoder->prepare_search({decoder->devices(), memory_.device, memory_.host, 1, nullptr, false, {}},
                                            options_.beam, *memory, weights_, memory_);
      else
        part.step = layer->prepare_step(slots_, features);
      if (layer->output_size()) features = layer->output_size();
      part.y = memory_.device.take<T>(size_t(slots_ * features));
      part.width = features;
      parts_.push_back(std::move(part));
    }
  }

  // Computes the log-probabilities of all tokens after each slot, and the new states in states_[1].
  void take_step(Stop* stop) {
    LayerStepCall<T> call = {};
    call.rows = slots_;
    call.stop = stop;
    call.tokens = {tokens_.data(), 1, 1};
    for (const Part& part : parts_) {
      call.y = part.y;
      call.y_row = part.width;
      call.state = {states_[0].data + part.state, states_[0].stride};
      call.final_state = {states_[1].data + part.state, states_[1].stride};
      part.step->run(call);
      call.x = part.y;
      call.x_row = part.width;
    }
    const ptrdiff_t n = search_.vocabulary_;
    for (ptrdiff_t slot = 0; slot < slots_; ++slot) {
      if (slot % options_.beam >= open_[size_t(slot / options_.beam)]) continue;
      if (stop && stop->poll()) return;
      T* log_probs = log_probs_ + slot * n;
      device_.log_softmax(call.x + slot * n, log_probs, n);
      const HostAccess access(devices());
      check(!std::isnan(log_probs[0]), "search",
            "got scores that hold NaN or that are all -infinity, expected one that ",
            "can be chosen; look for NaN in the parameters, the state or the memory");
    }
  }

  void extend(ptrdiff_t row, ptrdiff_t step) {
    const HostAccess access(devices());
    const ptrdiff_t n = search_.vocabulary_, first = row * options_.beam, length = step + 1;
    best_.clear();
    for (ptrdiff_t slot = first; slot < first + open_[size_t(row)]; ++slot)
      for (ptrdiff_t token = 0; token < n; ++token)
        best_.add({sums_[size_t(slot)] + double(log_probs_[slot * n + token]), slot, token});
    const bool last = length == options_.max_steps;
    const auto ends = [&](const Extension& e) { return last || e.token == options_.end; };
    const double penalty = length_penalty(length, options_.length_penalty);
    for (const Extension& e : best_.kept())
      if (ends(e)) finish(row, {e.sum / penalty, step, e.parent, e.token, log_probs_[e.parent * n + e.token]});

    Step& now = history_.back();
    ptrdiff_t open = 0;
    for (const Extension& e : best_.kept()) {
      if (ends(e)) continue;
      if (open == 0 && is_settled(row, e.sum)) break;
      const ptrdiff_t slot = first + open++;
      now.parents[size_t(slot)] = e.parent;
      now.tokens[size_t(slot)] = tokens_[size_t(slot)] = e.token;
      now.log_probs[size_t(slot)] = log_probs_[e.parent * n + e.token];
      sums_[size_t(slot)] = e.sum;
      std::copy_n(states_[1].at(e.parent), search_.state_size_, states_[0].at(slot));
    }
    open_[size_t(row)] = open;
  }

  // Whether no continuation of a hypothesis can be among the best: its sum can only fall, and the length penalty raises
  // the score of the longest most.
  bool is_settled(ptrdiff_t row, double sum) const {
    const std::vector<Finished>& finished = finished_[size_t(row)];
    return ptrdiff_t(finished.size()) == options_.best &&
           finished.back().score >= sum / length_penalty(options_.max_steps, options_.length_penalty);
  }

  void finish(ptrdiff_t row, const Finished& f) {
    std::vector<Finished>& list = finished_[size_t(row)];
    const auto place =
        std::upper_bound(list.begin(), list.end(), f, [](const auto& a, const auto& b) { return a.score > b.score; });
    if (ptrdiff_t(list.size()) == options_.best && place == list.end()) return;
    list.insert(place, f);
    if (ptrdiff_t(list.size()) > options_.best) list.pop_back();
  }

  Hypothesis<T> trace(const Finished& f) const {
    Hypothesis<T> h = {f.score, {f.token}, {f.log_prob}, {}};
    std::vector<ptrdiff_t> slots = {f.parent};
    for (ptrdiff_t step = f.step, slot = f.parent; step-- > 0;) {
      const Step& s = history_[size_t(step)];
      h.tokens.push_back(s.tokens[size_t(slot)]);
      h.log_probs.push_back(s.log_probs[size_t(slot)]);
      slot = s.parents[size_t(slot)];
      slots.push_back(slot);
    }
    std::reverse(h.tokens.begin(), h.tokens.end());
    std::reverse(h.log_probs.begin(), h.log_probs.end());
    std::reverse(slots.begin(), slots.end());
    for (size_t step = 0; memory_steps_ && step < slots.size(); ++step) {
      const T* from = history_[step].weights.data() + slots[step] * memory_steps_;
      h.weights.insert(h.weights.end(), from, from + memory_steps_);
    }
    return h;
  }

  const Devices& devices() const { return search_.layers_.front()->devices(); }

  const Search& search_;
  const Device<T>& device_;
  const SearchOptions options_;
  const ptrdiff_t rows_, slots_, memory_steps_;
  Memory memory_;
  StateRows<T> states_[2];
  T* weights_ = nullptr;
  T* log_probs_ = nullptr;
  std::vector<Part> parts_;
  std::vector<int64_t> tokens_;
  std::vector<double> sums_;
  std::vector<ptrdiff_t> open_;  // open hypotheses of each row, in its first slots
  std::vector<Step> history_;
  Best best_;
  std::vector<std::vector<Finished>> finished_;  // of each row, best first
};

template <class T>
auto Search<T>::run(ptrdiff_t rows, StateRows<const T> state, const OtherInput<T>* memory, const SearchOptions& options,
                    int threads, Stop* stop) const -> std::vector<std::vector<Hypothesis<T>>> {
  std::vector<uint64_t> counts(versions_.size());
  Seen seen(versions_, counts.data());
  seen.look();
  const ptrdiff_t tasks = std::min<ptrdiff_t>(std::max(1, threads), rows);
  std::vector<std::unique_ptr<Rows>> parts;
  for (ptrdiff_t i = 0; i < tasks; ++i) {
    const ptrdiff_t begin = rows * i / tasks, count = rows * (i + 1) / tasks - begin;
    OtherInput<T> own = memory ? *memory : OtherInput<T>{};
    if (memory) {
      own.batch.rows = count;
      if (own.batch.lengths) own.batch.lengths += begin;
      own.x.data = own.x.at(begin, 0);
    }
    const StateRows<const T> first = {state.data ? state.at(begin) : nullptr, state.stride};
    parts.push_back(std::make_unique<Rows>(*this, count, first, memory ? &own : nullptr, options));
  }
  for_each_task(tasks, threads, [&](ptrdiff_t i) { parts[size_t(i)]->run(stop); });
  std::vector<std::vector<Hypothesis<T>>> found;
  if (stop && stop->requested()) return found;
  seen.check();
  for (ptrdiff_t i = 0; i < tasks; ++i)
    for (ptrdiff_t r = 0; r < rows * (i + 1) / tasks - rows * i / tasks; ++r)
      found.push_back(parts[size_t(i)]->best(r));
  return found;
}

template class Search<float>;
template class Search<double>;

}  // namespace recurra
