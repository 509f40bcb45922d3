// Some rows of a generation, on one thread. Part of generation.cpp.
#pragma once
#include <algorithm>

#include "device/moves.h"
#include "layers/attention_decoder.h"
#include "search/generation.h"

namespace recurra {

// A slot is a place in the batch that a step computes. Rows that end leave theirs to the last one; with memories, whose
// rows have their places, they keep it.
template <class T>
class Generation<T>::Part {
 public:
  // Rows [first, first + rows); `state`: of all rows, after their prompts.
  Part(const Generation& whole, ptrdiff_t first, ptrdiff_t rows, const std::vector<T>& state)
      : whole_(whole),
        program_(*whole.program_),
        device_(program_.devices().template of<T>()),
        first_(first),
        rows_(rows),
        state_size_(program_.state_size()),
        memory_(program_.devices()) {
    for (StateRows<T>* block : {&state_, &next_state_, &saved_state_, &final_state_})
      *block = {memory_.device.template take<T>(size_t(rows * state_size_)), state_size_};
    {
      const HostAccess access(program_.devices());
      std::copy_n(state.data() + first * state_size_, rows * state_size_, state_.data);
    }
    now_.rows.resize(size_t(rows));
    for (ptrdiff_t r = 0; r < rows; ++r) now_.rows[size_t(r)] = r;
    now_.slots = rows;
    now_.lengths.assign(size_t(rows), 0);
    now_.rows_at.assign(size_t(rows), kOpen);
    take_heads();
    take_inputs();
    for (size_t i = 0; i < whole.inputs_.size(); ++i)
      if (whole.options_.inputs[i].kind == GenerationInput::kFed) read_last(i);
    prepare();
    saved_ = now_;
  }

  // Anew, where weights have changed since.
  void prepare() { step_ = std::make_unique<ProgramStep<T>>(program_, rows_, memories_); }

  void save() {
    saved_ = now_;
    keep(state_, saved_state_);
    for (Fed& fed : fed_) keep(fed.vectors, fed.saved);
  }
  void restore() {
    now_ = saved_;
    keep(saved_state_, state_);
    for (Fed& fed : fed_) keep(fed.saved, fed.vectors);
    for (History& history : history_) history.cut(now_.step * rows_);
    weights_history_.resize(size_t(now_.step * rows_ * memory_steps_));
  }

  void run(ptrdiff_t steps, Stop* stop) {
    for (ptrdiff_t s = 0; s < steps && any_open(); ++s) {
      if (stop && stop->poll()) return;
      take_step(stop);
      if (stop && stop->requested()) return;
      draw();
      ++now_.step;
      leave();
    }
  }

  ptrdiff_t memory_steps() const { return memory_steps_; }
  bool any_open() const { return now_.ended < rows_; }
  bool is_open(ptrdiff_t row) const { return now_.rows_at[size_t(row)] == kOpen; }
  ptrdiff_t length(ptrdiff_t row) const { return now_.lengths[size_t(row)]; }
  ptrdiff_t first() const { return first_; }
  ptrdiff_t rows() const { return rows_; }

  void end(ptrdiff_t row) {
    if (!is_open(row)) return;
    close(row);
    leave();
  }

  void write_state(T* to) const {
    const HostAccess access(program_.devices());
    for (ptrdiff_t r = 0; r < rows_; ++r)
      if (!is_open(r)) std::copy_n(final_state_.at(r), state_size_, to + r * state_size_);
    for (ptrdiff_t slot = 0; slot < now_.slots; ++slot)
      if (is_open(now_.rows[size_t(slot)]))
        std::copy_n(state_.at(slot), state_size_, to + now_.rows[size_t(slot)] * state_size_);
  }

  // Steps [from, generated.steps) of its rows.
  void write(Generated<T>& to, ptrdiff_t from) const {
    for (ptrdiff_t r = 0; r < rows_; ++r)
      for (ptrdiff_t step = from; step < length(r); ++step) {
        const ptrdiff_t source = step * rows_ + r, target = (first_ + r) * to.steps + step - from;
        for (size_t h = 0; h < history_.size(); ++h) {
          const ptrdiff_t width = history_[h].width;
          to.outputs[h].log_probs[size_t(target)] = history_[h].log_probs[size_t(source)];
          if (width)
            std::copy_n(history_[h].vectors.begin() + source * width, width,
                        to.outputs[h].vectors.begin() + target * width);
          else
            to.outputs[h].tokens[size_t(target)] = history_[h].tokens[size_t(source)];
        }
        std::copy_n(weights_history_.begin() + source * memory_steps_, memory_steps_,
                    to.weights.begin() + target * memory_steps_);
      }
  }

 private:
  // An input that gets samples: tokens or vectors of its next step, by slot.
  struct Fed {
    size_t input, head;
    bool tokens, one_hot;
    StateRows<T> vectors, saved;
  };
  // An input that is known, of the step at hand.
  struct Given {
    size_t input;
    bool tokens;
    std::vector<int64_t> token;
    StateRows<T> vectors;
  };
  // The samples of a head, (step, row, ...).
  struct History {
    ptrdiff_t width;
    std::vector<int64_t> tokens;
    std::vector<T> vectors, log_probs;
    void cut(ptrdiff_t samples) {
      tokens.resize(size_t(width ? 0 : samples));
      vectors.resize(size_t(samples * width));
      log_probs.resize(size_t(samples));
    }
  };
  enum RowPlace : uint8_t { kOpen, kEnding, kEnded };  // an ending row still has its slot to leave
  struct Progress {
    ptrdiff_t step = 0, slots = 0, ended = 0;
    std::vector<int64_t> rows;     // of each slot
    std::vector<int64_t> lengths;  // of each row
    std::vector<RowPlace> rows_at;
    std::vector<std::vector<int64_t>> tokens;  // of each fed input, by slot
    std::vector<std::vector<uint8_t>> seen;    // of each head: (row, token), empty without a penalty
  };

  ptrdiff_t width_of(size_t input) const { return program_.graph().values()[input].features; }
  StateRows<T> take_rows(ptrdiff_t width) { return {memory_.device.template take<T>(size_t(rows_ * width)), width}; }
  void keep(StateRows<T> from, StateRows<T> to) {
    if (from.data) copy_rows<T>(device_, rows_, from.stride, read_only(from), to);
  }

  void take_heads() {
    for (size_t h = 0; h < whole_.options_.heads.size(); ++h) {
      const HeadOptions& options = whole_.options_.heads[h];
      const ptrdiff_t predictions = program_.graph().output(ptrdiff_t(h)).features;
      heads_.push_back(std::make_unique<Head<T>>(program_.devices(), options, predictions));
      history_.push_back({Head<T>::width(options, predictions), {}, {}, {}});
      outputs_.push_back({take_rows(predictions).data, predictions});
      samples_.push_back(take_rows(std::max<ptrdiff_t>(history_.back().width, 1)));
      now_.seen.emplace_back(size_t(options.penalty == 1 ? 0 : rows_ * predictions), uint8_t(0));
    }
  }

  void take_inputs() {
    step_inputs_.resize(whole_.inputs_.size());
    for (size_t i = 0; i < whole_.inputs_.size(); ++i) {
      const GenerationInput& use = whole_.options_.inputs[i];
      const bool tokens = program_.graph().values()[i].tokens;
      const StateRows<T> vectors =
          tokens || use.kind == GenerationInput::kMemory ? StateRows<T>{} : take_rows(width_of(i));
      if (use.kind == GenerationInput::kFed) {
        const bool one_hot = !tokens && !history_[size_t(use.head)].width;
        fed_.push_back({i, size_t(use.head), tokens, one_hot, vectors, tokens ? vectors : take_rows(width_of(i))});
        now_.tokens.emplace_back(size_t(tokens ? rows_ : 0), int64_t(0));
      } else if (use.kind == GenerationInput::kGiven) {
        given_.push_back({i, tokens, std::vector<int64_t>(size_t(tokens ? rows_ : 0)), vectors});
      } else {
        take_memory(i);
      }
    }
  }

  void take_memory(size_t i) {
    const Value<T>& value = whole_.inputs_[i];
    OtherInput<T> own = {value.batch, value.features, value.x.features};
    own.batch.rows = rows_;
    if (own.batch.lengths) own.batch.lengths += first_;
    own.x.data = own.x.at(first_, 0);
    T* const weights = memory_.device.template take<T>(size_t(rows_ * value.batch.steps));
    const auto& nodes = program_.graph().nodes();
    const bool decodes = std::any_of(nodes.begin(), nodes.end(), [i](const auto& node) {
      return dynamic_cast<const AttentionDecoder<T>*>(node.layer.get()) && node.inputs[1] == ptrdiff_t(i);
    });
    if (decodes && !weights_) {
      weights_ = weights;
      memory_steps_ = value.batch.steps;
    }
    memories_.push_back({ptrdiff_t(i), own, weights});
  }

  // The last step of the prompts, and what the rows have seen of tokens.
  void read_last(size_t i) {
    Fed& fed = *std::find_if(fed_.begin(), fed_.end(), [i](const Fed& f) { return f.input == i; });
    const Value<T>& value = whole_.inputs_[i];
    std::vector<uint8_t>& seen = now_.seen[fed.head];
    const ptrdiff_t n = rows_ ? ptrdiff_t(seen.size()) / rows_ : 0;
    const HostAccess access(program_.devices());
    for (ptrdiff_t r = 0; r < rows_; ++r) {
      const ptrdiff_t length = whole_.prompt(first_ + r);
      if (fed.tokens)
        tokens_of(fed)[size_t(r)] = *value.x.tokens.at(first_ + r, length - 1);
      else
        std::copy_n(value.x.features.at(first_ + r, length - 1), width_of(i), fed.vectors.at(r));
      for (ptrdiff_t s = 0; n && s < length; ++s) {
        ptrdiff_t token = 0;
        if (fed.tokens) {
          token = ptrdiff_t(*value.x.tokens.at(first_ + r, s));
        } else {
          const T* x = value.x.features.at(first_ + r, s);
          token = std::max_element(x, x + n) - x;
        }
        if (token < n) seen[size_t(r * n + token)] = 1;
      }
    }
  }

  std::vector<int64_t>& tokens_of(const Fed& fed) { return now_.tokens[size_t(&fed - fed_.data())]; }

  void take_step(Stop* stop) {
    {
      const HostAccess access(program_.devices());
      for (Given& given : given_) look_up(given);
    }
    for (Given& given : given_)
      step_inputs_[given.input] = {given.vectors.data, given.vectors.stride, {given.token.data(), 1, 1}};
    for (Fed& fed : fed_)
      step_inputs_[fed.input] = {fed.vectors.data, fed.vectors.stride, {tokens_of(fed).data(), 1, 1}};
    step_->run({step_inputs_.data(), outputs_.data(), nullptr, 0, now_.slots, read_only(state_), next_state_, stop});
    std::swap(state_, next_state_);
  }

  void look_up(Given& given) {
    const Value<T>& value = whole_.inputs_[given.input];
    for (ptrdiff_t slot = 0; slot < now_.slots; ++slot) {
      const ptrdiff_t row = first_ + now_.rows[size_t(slot)];
      const ptrdiff_t step = std::min(whole_.prompt(row) - 1 + now_.step, value.batch.steps - 1);
      if (given.tokens)
        given.token[size_t(slot)] = *value.x.tokens.at(row, step);
      else
        std::copy_n(value.x.features.at(row, step), width_of(given.input), given.vectors.at(slot));
    }
  }

  void draw() {
    const GenerationOptions& o = whole_.options_;
    for (History& history : history_) history.cut((now_.step + 1) * rows_);
    for (size_t h = 0; h < heads_.size(); ++h) {
      const ptrdiff_t n = outputs_[h].row, width = history_[h].width;
      std::vector<uint8_t>& seen = now_.seen[h];
      for (ptrdiff_t slot = 0; slot < now_.slots; ++slot) {
        const ptrdiff_t row = now_.rows[size_t(slot)], at = now_.step * rows_ + row;
        if (!is_open(row)) continue;
        const uint64_t seed = o.seed + uint64_t(h) * 0xD1B54A32D192ED03u;
        const RandomNumbers random(seed, uint64_t(o.row_ids[size_t(first_ + row)]), uint32_t(o.first_step + now_.step));
        uint8_t* const known = seen.empty() ? nullptr : seen.data() + row * n;
        T* const sample = samples_[h].at(slot);
        const Drawn drawn = heads_[h]->draw(outputs_[h].y + slot * n, known, random, sample);
        check(!drawn.problem, "generate", "got ", drawn.problem ? drawn.problem : "", " in row ", first_ + row,
              " at step ", now_.step, ", expected some that can be drawn from; look for NaN in the parameters, the ",
              "prompt or the state, and for options that leave nothing");
        history_[h].log_probs[size_t(at)] = T(drawn.log_prob);
        if (width) {
          const HostAccess access(program_.devices());
          std::copy_n(sample, width, history_[h].vectors.begin() + at * width);
          continue;
        }
        history_[h].tokens[size_t(at)] = drawn.token;
        if (known) known[drawn.token] = 1;
      }
    }
    feed();
    if (memory_steps_) {
      const HostAccess access(program_.devices());
      weights_history_.insert(weights_history_.end(), weights_, weights_ + rows_ * memory_steps_);
    }
  }

  // The samples become the next inputs; rows that have drawn a stop are closed.
  void feed() {
    for (Fed& fed : fed_) {
      const HostAccess access(program_.devices());
      for (ptrdiff_t slot = 0; slot < now_.slots; ++slot) {
        const ptrdiff_t row = now_.rows[size_t(slot)];
        if (!is_open(row)) continue;
        if (!fed.tokens && !fed.one_hot) {
          std::copy_n(samples_[fed.head].at(slot), width_of(fed.input), fed.vectors.at(slot));
          continue;
        }
        const int64_t token = history_[fed.head].tokens[size_t(now_.step * rows_ + row)];
        if (fed.tokens) {
          tokens_of(fed)[size_t(slot)] = token;
        } else {
          std::fill_n(fed.vectors.at(slot), width_of(fed.input), T(0));
          fed.vectors.at(slot)[token] = 1;
        }
      }
    }
    for (ptrdiff_t row = 0; row < rows_; ++row) {
      if (!is_open(row)) continue;
      ++now_.lengths[size_t(row)];
      for (size_t h = 0; h < heads_.size(); ++h) {
        const std::vector<int64_t>& stops = whole_.options_.heads[h].stops;
        if (stops.empty() || !is_open(row)) continue;
        const int64_t token = history_[h].tokens[size_t(now_.step * rows_ + row)];
        if (std::find(stops.begin(), stops.end(), token) != stops.end()) close(row);
      }
    }
  }

  void close(ptrdiff_t row) {
    now_.rows_at[size_t(row)] = kEnding;
    ++now_.ended;
  }

  // Closed rows leave their slots.
  void leave() {
    for (ptrdiff_t slot = now_.slots; slot-- > 0;) {
      const ptrdiff_t row = now_.rows[size_t(slot)];
      if (now_.rows_at[size_t(row)] != kEnding) continue;
      move_row(state_, slot, final_state_, row);
      now_.rows_at[size_t(row)] = kEnded;
      if (!memories_.empty()) continue;
      const ptrdiff_t last = --now_.slots;
      now_.rows[size_t(slot)] = now_.rows[size_t(last)];
      if (slot == last) continue;
      move_row(state_, last, state_, slot);
      for (Fed& fed : fed_) {
        if (fed.tokens)
          tokens_of(fed)[size_t(slot)] = tokens_of(fed)[size_t(last)];
        else
          move_row(fed.vectors, last, fed.vectors, slot);
      }
    }
  }

  void move_row(StateRows<T> from, ptrdiff_t source, StateRows<T> to, ptrdiff_t target) {
    copy_flat<T>(device_, from.at(source), from.stride, to.at(target));
  }

  const Generation& whole_;
  const Program<T>& program_;
  const Device<T>& device_;
  const ptrdiff_t first_, rows_, state_size_;
  Memory memory_;
  std::unique_ptr<ProgramStep<T>> step_;
  Progress now_, saved_;
  StateRows<T> state_, next_state_, saved_state_, final_state_;  // by slot, but for the last, by row
  std::vector<Fed> fed_;
  std::vector<Given> given_;
  std::vector<StepMemory<T>> memories_;
  ptrdiff_t memory_steps_ = 0;
  T* weights_ = nullptr;
  std::vector<StepInput<T>> step_inputs_;
  std::vector<StepOutput<T>> outputs_;
  std::vector<StateRows<T>> samples_;
  std::vector<std::unique_ptr<Head<T>>> heads_;
  std::vector<History> history_;
  std::vector<T> weights_history_;
};

}  // namespace recurra
