#include "search/generation.h"

#include <algorithm>
#include <exception>

#include "platform/tasks.h"
#include "search/generation_part.h"

namespace recurra {
namespace {

constexpr const char* kGenerate = "generate";
constexpr double kSharedWork = 4e6;     // multiply-adds of steps that a second thread is worth
constexpr double kPolledWork = 2e8;     // of a step of one part: between two of them, the stop is polled
constexpr double kPromptNumbers = 1e6;  // of the outputs of a piece of the prompts, which nobody reads

}  // namespace

template <class T>
Generation<T>::Generation(std::shared_ptr<Program<T>> program, std::vector<Value<T>> inputs, std::vector<T> state,
                          GenerationOptions options)
    : program_(std::move(program)),
      inputs_(std::move(inputs)),
      options_(std::move(options)),
      state_(std::move(state)),
      rows_(inputs_.front().batch.rows),
      counts_(program_->versions().size(), kNoCount),
      seen_(program_->versions(), counts_.data()) {
  check_inputs();
}

template <class T>
Generation<T>::~Generation() = default;

template <class T>
void Generation<T>::check_inputs() const {
  const Graph<T>& graph = program_->graph();
  const GenerationOptions& o = options_;
  check(o.inputs.size() == inputs_.size() && o.heads.size() == graph.outputs().size(), kGenerate, "got options of ",
        o.inputs.size(), " inputs and ", o.heads.size(), " outputs, expected ", inputs_.size(), " and ",
        graph.outputs().size());
  check(o.steps >= 0, kGenerate, "steps is ", o.steps, ", expected 0 or more");
  check(ptrdiff_t(o.row_ids.size()) == rows_, kGenerate, "got ", o.row_ids.size(), " row ids, expected ", rows_);
  for (const auto& node : graph.nodes())
    check(!node.feeds_states, kGenerate,
          "a layer's state is passed to another one in every step, expected states that ",
          "are carried from step to step");
  std::vector<ptrdiff_t> widths;
  for (size_t h = 0; h < o.heads.size(); ++h) {
    const ptrdiff_t predictions = graph.output(ptrdiff_t(h)).features;
    Head<T>::check_options(o.heads[h], predictions, kGenerate);
    widths.push_back(Head<T>::width(o.heads[h], predictions));
  }
  auto* const first = const_cast<const Value<T>**>(&first_fed_);
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const GenerationInput& use = o.inputs[i];
    const Value<T>& value = inputs_[i];
    if (use.kind != GenerationInput::kFed) continue;
    const auto& info = graph.values()[i];
    const ptrdiff_t width = widths[size_t(use.head)];
    const ptrdiff_t predictions = graph.output(use.head).features;
    if (info.tokens)
      check(!width && predictions <= info.features, kGenerate, "input ", i, " reads ", info.features,
            " tokens, but the output that feeds it ", width ? "is numbers" : "has ", width ? "" : "more classes",
            "; let it be the logits of at most as many tokens");
    else
      check(value.features == (width ? width : predictions), kGenerate, "input ", i, " has ", value.features,
            " features, but a sample of the output that feeds it has ", width ? width : predictions,
            width ? "" : ", one-hot", "; expected as many");
    if (!*first) *first = &value;
    for (ptrdiff_t r = 0; r < rows_; ++r) {
      check(value.batch.length(r) >= 1, kGenerate, "the prompt of row ", r,
            " has no step, expected at least 1: what the first sample follows, such as a start token or zeros");
      check(value.batch.length(r) == prompt(r), kGenerate, "the prompts of row ", r, " have ", prompt(r), " and ",
            value.batch.length(r), " steps, expected as many for all inputs");
    }
  }
  check(first_fed_ != nullptr, kGenerate, "got no prompt, expected one for each output");
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const Value<T>& value = inputs_[i];
    for (ptrdiff_t r = 0; r < rows_ && o.inputs[i].kind == GenerationInput::kGiven; ++r) {
      const ptrdiff_t needed = prompt(r) + std::max<ptrdiff_t>(o.steps - 1, 0);
      check(value.batch.length(r) >= needed, kGenerate, "a given input has ", value.batch.length(r), " steps in row ",
            r, ", expected at least ", needed, ": those of the prompt and all to be generated but the last");
    }
  }
}

template <class T>
double Generation<T>::work(ptrdiff_t steps) const {
  double each = program_->graph().work_per_step();
  for (const auto& node : program_->graph().nodes())
    for (size_t k = 1; k < node.inputs.size(); ++k)
      if (const auto v = size_t(node.inputs[k]); v < inputs_.size())
        each += node.layer->work_per_memory_step() * double(inputs_[v].batch.steps);
  const double all = double(rows_) * double(std::min(steps, options_.steps - done_));
  return each * (all + (parts_.empty() ? double(first_fed_->batch.tokens()) : 0));
}

template <class T>
void Generation<T>::run(ptrdiff_t steps, Stop* stop) {
  steps = std::min(steps, options_.steps - done_);
  const bool begins = parts_.empty();
  if (!seen_.is_current()) {
    seen_.look();
    for (const auto& part : parts_) part->prepare();
  }
  for (const auto& part : parts_) part->save();
  try {
    if (begins) begin(stop);
    if (!(stop && stop->requested())) run_parts(steps, stop);
    if (!(stop && stop->requested())) {
      seen_.check();
      done_ += steps;
      return;
    }
  } catch (...) {
    if (begins) parts_.clear();
    for (const auto& part : parts_) part->restore();
    throw;
  }
  if (begins) parts_.clear();
  for (const auto& part : parts_) part->restore();
}

// Of several parts that fail, the first one's error is told, whichever thread was faster.
template <class T>
void Generation<T>::run_parts(ptrdiff_t steps, Stop* stop) {
  std::vector<std::exception_ptr> failed(parts_.size());
  for_each_task(ptrdiff_t(parts_.size()), threads_, [&](ptrdiff_t i) {
    try {
      parts_[size_t(i)]->run(steps, stop);
    } catch (...) {
      failed[size_t(i)] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : failed)
    if (error) std::rethrow_exception(error);
}

template <class T>
void Generation<T>::begin(Stop* stop) {
  std::vector<T> state(size_t(rows_ * program_->state_size()), T(0));
  if (!state_.empty()) state = state_;
  read_prompt(state, stop);
  if (stop && stop->requested()) return;
  threads_ = threads_for(work(options_.steps), kSharedWork);
  const auto polled = ptrdiff_t(work(1) / kPolledWork);
  const ptrdiff_t count = std::min(std::max<ptrdiff_t>(threads_, polled), rows_);
  for (ptrdiff_t i = 0; i < count; ++i) {
    const ptrdiff_t first = rows_ * i / count;
    parts_.push_back(std::make_unique<Part>(*this, first, rows_ * (i + 1) / count - first, state));
  }
}

// In pieces, so that the outputs, which nobody reads, take little memory.
template <class T>
void Generation<T>::read_prompt(std::vector<T>& state, Stop* stop) const {
  ptrdiff_t steps = 0;
  for (ptrdiff_t r = 0; r < rows_; ++r) steps = std::max(steps, prompt(r) - 1);
  const Graph<T>& graph = program_->graph();
  double numbers = 1;
  for (size_t h = 0; h < graph.outputs().size(); ++h)
    numbers += double(graph.output(ptrdiff_t(h)).features) * double(rows_);
  const ptrdiff_t most = std::clamp<ptrdiff_t>(ptrdiff_t(kPromptNumbers / numbers), 16, 4096);
  const ptrdiff_t size = program_->state_size();
  Memory scratch(program_->devices()), outputs(program_->devices());
  std::vector<T> next(state.size());
  std::vector<int64_t> lengths(size_t(rows_), 0);
  for (ptrdiff_t begin = 0; begin < steps; begin += most) {
    const ptrdiff_t count = std::min(most, steps - begin);
    for (ptrdiff_t r = 0; r < rows_; ++r) lengths[size_t(r)] = std::clamp<ptrdiff_t>(prompt(r) - 1 - begin, 0, count);
    std::vector<Value<T>> piece = inputs_;
    for (size_t i = 0; i < piece.size(); ++i) {
      if (options_.inputs[i].kind == GenerationInput::kMemory) continue;
      piece[i].batch.steps = count;
      piece[i].batch.lengths = lengths.data();
      if (graph.values()[i].tokens)
        piece[i].x.tokens.data = piece[i].x.tokens.at(0, begin);
      else
        piece[i].x.features.data = piece[i].x.features.at(0, begin);
    }
    scratch.reset();
    outputs.reset();
    Value<T>* values = graph.plan(piece.data(), scratch.host);
    std::vector<Sequence<T>> y;
    for (ptrdiff_t v : graph.outputs())
      y.push_back(take_sequence<T>(outputs.device, values[v].batch, values[v].features));
    program_->forward({piece.data(), {state.data(), size}, stop}, values, y.data(), {next.data(), size}, scratch);
    if (stop && stop->requested()) return;
    std::swap(state, next);
  }
}

template <class T>
auto Generation<T>::part_of(ptrdiff_t row, ptrdiff_t& within) const -> Part& {
  for (const auto& part : parts_) {
    within = row - part->first();
    if (within < part->rows()) return *part;
  }
  fail(kGenerate, "there is no such row");
}

template <class T>
ptrdiff_t Generation<T>::steps_left() const {
  const auto open = [](const auto& part) { return part->any_open(); };
  const bool any = parts_.empty() ? rows_ > 0 && !done_ : std::any_of(parts_.begin(), parts_.end(), open);
  return any ? options_.steps - done_ : 0;
}

template <class T>
bool Generation<T>::is_open(ptrdiff_t row) const {
  ptrdiff_t within = 0;
  return parts_.empty() ? !done_ : part_of(row, within).is_open(within);
}

template <class T>
void Generation<T>::end(ptrdiff_t row) {
  ptrdiff_t within = 0;
  Part& part = part_of(row, within);
  part.end(within);
}

template <class T>
Generated<T> Generation<T>::generated(ptrdiff_t from_step) const {
  Generated<T> made = {};
  made.lengths.assign(size_t(rows_), 0);
  for (const auto& part : parts_) {
    made.memory_steps = part->memory_steps();
    for (ptrdiff_t r = 0; r < part->rows(); ++r) {
      made.lengths[size_t(part->first() + r)] = part->length(r);
      made.steps = std::max(made.steps, part->length(r) - from_step);
    }
  }
  const size_t samples = size_t(rows_ * made.steps);
  for (size_t h = 0; h < options_.heads.size(); ++h) {
    const ptrdiff_t width = Head<T>::width(options_.heads[h], program_->graph().output(ptrdiff_t(h)).features);
    made.outputs.push_back(
        {std::vector<int64_t>(width ? 0 : samples), std::vector<T>(samples * size_t(width)), std::vector<T>(samples)});
  }
  made.weights.resize(samples * size_t(made.memory_steps));
  for (const auto& part : parts_) part->write(made, from_step);
  return made;
}

template <class T>
std::vector<T> Generation<T>::state() const {
  const ptrdiff_t size = program_->state_size();
  std::vector<T> made(size_t(rows_ * size));
  for (const auto& part : parts_) part->write_state(made.data() + part->first() * size);
  return made;
}

template class Generation<float>;
template class Generation<double>;

}  // namespace recurra
