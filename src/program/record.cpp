// A forward that is recorded: first the places of all that the tape holds, then the computation.
#include <algorithm>

#include "device/valid_steps.h"
#include "program/program.h"
#include "program/tape_facts.h"

namespace recurra {
namespace {

Sequence<const int64_t> copy_tokens(Arena& memory, const Batch& batch, Sequence<const int64_t> tokens) {
  const Sequence<int64_t> to = take_sequence<int64_t>(memory, batch, 1);
  for_each_valid(batch, 1, [&](ptrdiff_t r, ptrdiff_t s) { *to.at(r, s) = *tokens.at(r, s); });
  return read_only(to);
}

Batch copy_batch(Arena& memory, Batch batch) {
  if (batch.lengths)
    batch.lengths = std::copy_n(batch.lengths, batch.rows, memory.take<int64_t>(size_t(batch.rows))) - batch.rows;
  if (!batch.reset) return batch;
  uint8_t* reset = memory.take<uint8_t>(size_t(batch.rows * batch.steps));
  for_each_valid(batch, 1, [&](ptrdiff_t r, ptrdiff_t s) {
    reset[r * batch.steps + s] = batch.reset[r * batch.reset_row + s * batch.reset_step];
  });
  batch.reset = reset;
  batch.reset_row = batch.steps;
  batch.reset_step = 1;
  return batch;
}

// What a tape only reads once it is recorded, and record() writes.
template <class T>
Sequence<T> writable(Sequence<const T> s) {
  return {const_cast<T*>(s.data), s.row_stride, s.step_stride};
}

}  // namespace

template <class T>
std::vector<size_t> Program<T>::share_budget(const Value<T>* values, StateRows<const T> state, size_t held,
                                             const RecordOptions& options) const {
  const auto& nodes = graph_.nodes();
  std::vector<size_t> shares(nodes.size(), size_t(-1));
  if (options.memory_budget == size_t(-1)) return shares;
  const Batch& batch = values[0].batch;
  std::vector<TapeBytes> sizes;
  size_t all = held, least = held;
  for (const Node& node : nodes) {
    const Value<T>& value = values[node.output];
    Arena count = Arena::counting();
    if (graph_.values()[size_t(node.output)].output < 0) take_sequence<T>(count, value.batch, value.features);
    std::vector<OtherInput<T>> others;
    for (size_t k = 1; k < node.inputs.size(); ++k) {
      const Value<T>& other = values[node.inputs[k]];
      others.push_back({other.batch, other.features, {}});
    }
    if (!others.empty()) count.take<OtherInput<T>>(others.size());
    for (int i = 0; node.feeds_states && i < 2; ++i) count.take<T>(size_t(batch.rows * node.state_size));
    const Value<T>& first = values[node.inputs[0]];
    const T some = 0;  // asked for is only whether a state is given
    const StateRows<const T> begin = node.feeds_states ? StateRows<const T>{&some, 0} : state;
    const TapeBytes size = node.layer->tape_bytes(
        {first.batch, first.features, {}, {}, begin, {}, others.data(), ptrdiff_t(others.size())}, options.training);
    all += size.all + count.used();
    least += size.least + count.used();
    sizes.push_back(size);
  }
  if (all <= options.memory_budget) return shares;
  check(least <= options.memory_budget, name().c_str(), "memory_budget is ", options.memory_budget,
        " bytes, expected at least ", least, " for ", batch.rows, " rows of ", batch.steps,
        " steps; raise it, or record fewer rows or steps at once");
  size_t spare = options.memory_budget - least;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const size_t more = std::min(spare, sizes[i].all - sizes[i].least);
    shares[i] = sizes[i].least + more;
    spare -= more;
  }
  return shares;
}

template <class T>
std::shared_ptr<Tape<T>> Program<T>::new_tape(std::unique_ptr<Memory> memory, const TapeBlock& block) {
  auto tape = std::make_shared<Tape<T>>();
  tape->program_ = this->shared_from_this();
  tape->memory_ = std::make_shared<typename Tape<T>::Owned>();
  tape->memory_->program = this->shared_from_this();
  tape->memory_->memory = std::move(memory);
  tape->memory_->block = block;
  return tape;
}

template <class T>
void Program<T>::lay_out(Tape<T>& tape, const ProgramInput<T>& input, const RecordOptions& options,
                         Memory& memory) const {
  const auto& nodes = graph_.nodes();
  const auto& infos = graph_.values();
  auto* inputs = memory.host.take<Value<T>>(size_t(graph_.inputs()));
  auto* wanted = memory.host.take<bool>(infos.size());
  for (ptrdiff_t i = 0; i < graph_.inputs(); ++i) {
    const bool tokens = infos[size_t(i)].tokens;
    Value<T>& value = inputs[i] = input.inputs[i];
    value.batch = copy_batch(memory.host, value.batch);
    if (tokens)
      value.x.tokens = copy_tokens(memory.host, value.batch, value.x.tokens);
    else
      value.x.features = read_only(take_sequence<T>(memory.device, value.batch, value.features));
    wanted[i] = !tokens && options.input_grad && options.input_grad[i];
  }
  for (const Node& node : nodes) {
    bool any = node.layer->parameters()->size() > 0;
    for (ptrdiff_t v : node.inputs) any = any || wanted[v];
    for (ptrdiff_t v : node.states) any = any || v == kOwnState || wanted[v];
    std::fill_n(wanted + node.output, node.specs.size() + 1, any);
  }
  Value<T>* values = graph_.plan(inputs, memory.host);
  const ptrdiff_t rows = values[0].batch.rows, size = state_size();
  if (input.state.data) tape.state_ = {memory.device.take<T>(size_t(rows * size)), size};
  const StateRows<T> final_state = {memory.device.take<T>(size_t(rows * size)), size};
  auto* outputs = memory.host.take<Value<T>>(graph_.outputs().size());
  for (size_t i = 0; i < graph_.outputs().size(); ++i) {
    outputs[i] = values[graph_.outputs()[i]];
    const bool time_major = options.time_major && !outputs[i].vector;
    outputs[i].x = {read_only(take_sequence<T>(memory.device, outputs[i].batch, outputs[i].features, time_major)), {}};
  }
  const std::vector<size_t> shares = share_budget(values, read_only(tape.state_), memory.used(), options);
  tape.values_ = values;
  tape.outputs_ = outputs;
  tape.wanted_ = wanted;
  tape.final_state_ = final_state.data;
  tape.work_ = graph_.work(values);
  tape.time_major_ = options.time_major;
  tape.training_ = options.training;
  tape.random_ = options.random;

  tape.steps_.reserve(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Layer<T>& layer = *nodes[i].layer;
    const ptrdiff_t v = nodes[i].output, output = infos[size_t(v)].output;
    const Sequence<T> out = output >= 0 ? writable(outputs[output].x.features)
                                        : take_sequence<T>(memory.device, values[v].batch, values[v].features);
    LayerForward<T> call = node_call(i, values, out, read_only(tape.state_), final_state, memory);
    call.tape_bytes = shares[i];
    const uint64_t version = layer.parameters()->version();
    tape.steps_.push_back({call, layer.take_tape(call, options.training, memory), version});
  }
}

template <class T>
std::shared_ptr<Tape<T>> Program<T>::record(const ProgramInput<T>& input, const RecordOptions& options,
                                            const TapeBlock& block) {
  std::vector<uint64_t> counts(versions_.size());
  Seen seen(versions_, counts.data());
  seen.look();
  const auto tape = new_tape(block.data ? memory_in(name().c_str(), block) : tapes_.take(), block);
  Memory& memory = *tape->memory_->memory;
  const size_t fact_count = block.data ? TapeFacts::count(graph_, input.inputs) : 0;
  int64_t* const facts = block.data ? memory.device.take<int64_t>(fact_count) : nullptr;
  lay_out(*tape, input, options, memory);
  check(!block.data || memory.device.used() <= block.size, name().c_str(), "got memory of ", block.size,
        " bytes for a tape, expected at least ", memory.device.used(),
        "; tape_bytes says how many a call with these shapes, lengths and options needs");

  const Device<T>& device = devices_.of<T>();
  const Value<T>* values = tape->values_;
  for (ptrdiff_t i = 0; i < graph_.inputs(); ++i)
    if (values[i].x.features.data)
      device.copy({&values[i].batch, values[i].features, input.inputs[i].x.features, writable(values[i].x.features)});
  if (input.state.data) copy_rows<T>(device, tape->rows(), state_size(), input.state, tape->state_);
  const StateRows<T> final_state = {tape->final_state_, state_size()};
  std::unique_ptr<Memory> scratch = scratch_.take();
  const Run run = this->run(tape->work_, input.stop, *scratch, options.training, options.random);
  for (size_t i = 0; i < tape->steps_.size(); ++i) {
    const auto& step = tape->steps_[i];
    begin_node(i, values, step.call, read_only(tape->state_));
    graph_.nodes()[i].layer->record(node_run(run, i), step.call, *step.tape);
    if (run.poll()) throw Interrupted();
    finish_node(i, step.call, final_state);
  }
  for (size_t i = 0; i < graph_.outputs().size(); ++i) finish_output(i, values, writable(tape->outputs_[i].x.features));
  if (facts) {
    TapeFacts written = {weights_digest(),      memory.device.used(), block.signature,    options.random,
                         options.memory_budget, options.training,     options.time_major, input.state.data != nullptr};
    for (const auto& step : tape->steps_) written.numbers.push_back(step.tape->number());
    const HostAccess access(devices_);
    written.write(graph_, values, tape->wanted_, {facts, fact_count});
  }
  seen.check();
  tape->recorded_ = memory.mark();
  if (options.finishes) tape->finish();
  scratch_.give_back(std::move(scratch));
  return tape;
}

template <class T>
size_t Program<T>::tape_bytes(const ProgramInput<T>& input, const RecordOptions& options) const {
  Memory count = Memory::counting();
  count.device.take<int64_t>(TapeFacts::count(graph_, input.inputs));
  Tape<T> tape;
  lay_out(tape, input, options, count);
  return count.device.used();
}

template <class T>
uint64_t Program<T>::weights_digest() const {
  uint64_t digest = 0;
  const HostAccess access(devices_);
  for (const Node& node : graph_.nodes()) {
    const Parameters<T>& parameters = *node.layer->parameters();
    const ReadLock lock(node.layer->parameters()->mutex());
    digest = digest_of(parameters.values(), size_t(parameters.size()) * sizeof(T), digest);
  }
  return digest;
}

template <class T>
std::shared_ptr<Tape<T>> Program<T>::open(const TapeBlock& block) {
  const char* name = this->name().c_str();
  std::vector<uint64_t> counts(versions_.size());
  Seen seen(versions_, counts.data());
  seen.look();
  const auto tape = new_tape(memory_in(name, block), block);
  Memory& memory = *tape->memory_->memory;
  const ReadFacts<T> found = [&] {
    const HostAccess access(devices_);
    return ReadFacts<T>(graph_, block);
  }();
  const TapeFacts& facts = found.facts;
  RecordOptions options = {facts.time_major, facts.training, found.wanted.get(), facts.random, facts.memory_budget};
  const T some = 0;
  const ProgramInput<T> input = {found.inputs.data(), {facts.state ? &some : nullptr, 0}};
  memory.device.take<int64_t>(TapeFacts::count(graph_, input.inputs));
  lay_out(*tape, input, options, memory);
  check(memory.device.used() == facts.used, name,
        "got memory with a tape of another model, or recorded on another "
        "instruction set, expected one that this model has recorded on this machine; record again");
  check(weights_digest() == facts.weights, name,
        "got memory with a tape that other weights have recorded, expected those that the model has now; run backward "
        "before the optimiser's step, load the weights, or record again");
  for (size_t i = 0; i < tape->steps_.size(); ++i) tape->steps_[i].tape->set_number(facts.numbers[i]);
  seen.check();
  tape->finished_ = true;
  return tape;
}

#define RECURRA_INSTANCES(T)                                                                         \
  template std::vector<size_t> Program<T>::share_budget(const Value<T>*, StateRows<const T>, size_t, \
                                                        const RecordOptions&) const;                 \
  template std::shared_ptr<Tape<T>> Program<T>::record(const ProgramInput<T>&, const RecordOptions&, \
                                                       const TapeBlock&);                            \
  template size_t Program<T>::tape_bytes(const ProgramInput<T>&, const RecordOptions&) const;        \
  template std::shared_ptr<Tape<T>> Program<T>::open(const TapeBlock&);
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
