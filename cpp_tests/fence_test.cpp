// Every layer on a device whose memory nobody may look at outside its operations: forwards, backwards, a step of an
// optimiser, a stream and a search, to the bits of the plain device. A look ends the process with a message of
// fence.cpp.
#include <gtest/gtest.h>

#include <functional>

#include "fence_values.h"
#include "guarded_block.h"
#include "layers/activation.h"
#include "layers/attention.h"
#include "layers/attention_decoder.h"
#include "layers/attention_pool.h"
#include "layers/batch_norm.h"
#include "layers/conv1d.h"
#include "layers/conv2d.h"
#include "layers/conv_transpose1d.h"
#include "layers/crf.h"
#include "layers/dense.h"
#include "layers/dropout.h"
#include "layers/embedding.h"
#include "layers/group_norm.h"
#include "layers/hopfield.h"
#include "layers/layer_norm.h"
#include "layers/learnt_vector.h"
#include "layers/merge.h"
#include "layers/permute.h"
#include "layers/pool.h"
#include "layers/prelu.h"
#include "layers/repeat_vector.h"
#include "layers/reverse.h"
#include "layers/slice.h"
#include "layers/window_pool.h"
#include "losses/ctc_decode.h"
#include "optim/optim.h"
#include "program/stream.h"
#include "search/generation.h"
#include "search/search.h"

namespace recurra {
namespace {

const bool reports = (report_fence_faults(), true);

constexpr ptrdiff_t kRows = 3, kSteps = 7, kMemorySteps = 5, kTokens = 11;

template <class T>
using Layers = std::vector<std::shared_ptr<Layer<T>>>;

// A graph over (rows, steps, features) or tokens, and where it reads two inputs another one of kMemorySteps or kSteps.
template <class T>
struct Case {
  std::string name;
  std::function<GraphSpec<T>(const Devices&)> make;
  bool tokens = false;
  ptrdiff_t inputs = 1, other_steps = kSteps;
  bool resets = false;
};

template <class T, template <class> class L, class... Args>
std::function<GraphSpec<T>(const Devices&)> one(const Args&... args) {
  return [=](const Devices& devices) { return chain<T>(Layers<T>{std::make_shared<L<T>>(devices, args...)}); };
}

// A layer of two inputs.
template <class T, template <class> class L, class... Args>
std::function<GraphSpec<T>(const Devices&)> two(const Args&... args) {
  return [=](const Devices& devices) {
    GraphSpec<T> graph;
    graph.inputs = {{}, {}};
    graph.nodes = {{std::make_shared<L<T>>(devices, args...), {0, 1}}};
    graph.outputs = {2};
    return graph;
  };
}

template <class T>
void add_recurrent(std::vector<Case<T>>& cases) {
  const auto add = [&](const std::string& name, const RecurrentOptions& options, bool resets = true) {
    cases.push_back({name, one<T, Recurrent>(options), false, 1, kSteps, resets});
  };
  for (int kind = 0; kind < kCellKinds; ++kind) {
    const std::string cell = cpu_devices().f32.cell(CellKind(kind)).name;
    add(cell, recurrent(cell));
  }
  RecurrentOptions deep = recurrent("lstm");
  deep.num_layers = 3;
  deep.dropout = 0.3;
  add("deep", deep);
  deep.bidirectional = true;
  deep.input_dropout = 0.2;
  add("bidirectional", deep);
  RecurrentOptions last = recurrent("gru");
  last.return_sequences = false;
  add("last", last);
  add("options", optional_lstm());
}

// Activations other than a cell's own, each in every place.
template <class T>
void add_cell_activations(std::vector<Case<T>>& cases) {
  const ActivationOption others[] = {
      {"hard_sigmoid", 0.2, 0.5}, {"softsign"}, {"relu"}, {"linear"}, {"sigmoid"}, {"tanh"}};
  for (int kind = 0; kind < kCellKinds; ++kind) {
    const CellInfo& cell = cpu_devices().f32.cell(CellKind(kind));
    const auto other = [&](CellFunction own, size_t i) {
      return own == CellFunction::kNone ? ActivationOption{} : others[i % std::size(others)];
    };
    for (size_t i = 0; i < std::size(others); ++i) {
      RecurrentOptions options = recurrent(cell.name);
      options.gate_activation = other(cell.own.gate, i);
      options.candidate_activation = other(cell.own.candidate, i + 1);
      options.output_activation = other(cell.own.output, i + 2);
      const std::string name = std::string(cell.name) + "_activations_" + std::to_string(i);
      cases.push_back({name, one<T, Recurrent>(options), false, 1, kSteps, true});
    }
  }
}

template <class T>
void add_plain(std::vector<Case<T>>& cases) {
  cases.push_back({"dense", one<T, Dense>(kFeatures, ptrdiff_t(5), true)});
  cases.push_back({"embedding", one<T, Embedding>(kTokens, ptrdiff_t(4), false), true});
  cases.push_back({"sparse_embedding", one<T, Embedding>(kTokens, ptrdiff_t(4), true), true});
  cases.push_back({"dropout", one<T, Dropout>(0.4)});
  cases.push_back({"slice", one<T, Slice>(ptrdiff_t(1), ptrdiff_t(6), ptrdiff_t(2))});
  cases.push_back({"reverse", one<T, Reverse>(), false, 1, kSteps, true});
  cases.push_back({"crf", one<T, Crf>(kFeatures)});
  cases.push_back({"layer_norm", one<T, LayerNorm>(kFeatures, 1e-5, true)});
  cases.push_back({"layer_norm_alone", one<T, LayerNorm>(kFeatures, 1e-5, false)});
  cases.push_back({"group_norm", one<T, GroupNorm>(ptrdiff_t(2), kFeatures, 1e-5, true)});
  cases.push_back({"group_norm_alone", one<T, GroupNorm>(ptrdiff_t(3), ptrdiff_t(3), 1e-5, false)});
  cases.push_back({"batch_norm", one<T, BatchNorm>(kFeatures, 1e-5, 0.1, true)});
  cases.push_back({"batch_norm_alone", one<T, BatchNorm>(kFeatures, 1e-5, 0.1, false)});
  cases.push_back({"attention_pool", one<T, AttentionPool>(kFeatures, ptrdiff_t(4)), false, 1, kSteps, false});
  cases.push_back({"permute", one<T, Permute>(std::vector<ptrdiff_t>{1, 3, 2}, std::vector<ptrdiff_t>{2, 0, 1})});
  cases.push_back({"prelu", one<T, PRelu>(kFeatures)});
  cases.push_back({"prelu_of_one", one<T, PRelu>(ptrdiff_t(1))});
  cases.push_back({"learnt_vector", one<T, LearntVector>(ptrdiff_t(4))});
  for (const char* name : {"relu",         "leaky_relu", "elu",       "tanh",   "sigmoid", "gelu",     "silu",
                           "softplus",     "softmax",    "sqrt",      "square", "exp",     "log",      "abs",
                           "hard_sigmoid", "hard_swish", "hard_tanh", "relu6",  "selu",    "softsign", "mish"})
    cases.push_back({name, one<T, Activation>(std::string(name))});
  for (const char* mode : {"last", "mean", "max"})
    cases.push_back({std::string("pool_") + mode, one<T, Pool>(std::string(mode)), false, 1, kSteps, true});
  cases.push_back({"repeat", [](const Devices& devices) {
                     return chain<T>(Layers<T>{std::make_shared<Pool<T>>(devices, "mean"),
                                               std::make_shared<RepeatVector<T>>(devices, 4)});
                   }});
}

template <class T>
void add_windows(std::vector<Case<T>>& cases) {
  for (const char* padding : {"causal", "same", "valid"}) {
    Conv1dOptions options;
    options.in_channels = kFeatures;
    options.out_channels = 4;
    options.kernel_size = 3;
    options.padding = padding;
    options.bias = true;
    const bool valid = options.padding == "valid";
    options.stride = valid ? 2 : 1;
    options.dilation = valid ? 1 : 2;
    cases.push_back({std::string("conv_") + padding, one<T, Conv1d>(options), false, 1, kSteps, !valid});
    for (const char* mode : {"max", "mean"})
      cases.push_back({std::string("window_") + mode + "_" + padding,
                       one<T, WindowPool1d>(WindowPoolOptions{mode, 3, options.stride, padding, kFeatures}), false, 1,
                       kSteps, !valid});
  }
}

// Images of kFeatures values: columns of the sequence, and whole ones in each step.
template <class T>
void add_images(std::vector<Case<T>>& cases) {
  ImageOptions columns = {2, kFeatures / 2, 0, {3, 2}, {2, 1}, {1, 2}, {1, 2}, {0, 0}};
  ImageOptions whole = {1, 1, kFeatures, {1, 3}, {1, 2}, {1, 1}, {0, 1}, {0, 1}};
  for (const auto& [name, options] : {std::pair("_columns", columns), std::pair("_whole", whole)}) {
    cases.push_back({std::string("conv2d") + name, one<T, Conv2d>(options, ptrdiff_t(4), options.channels, true), false,
                     1, kSteps, true});
    ImageOptions pooled = options;
    pooled.dilation = {1, 1};
    pooled.before[1] = std::min<ptrdiff_t>(1, pooled.before[1]);
    for (const char* mode : {"max", "mean"})
      cases.push_back({std::string("pool2d_") + mode + name, one<T, WindowPool2d>(std::string(mode), pooled), false, 1,
                       kSteps, true});
  }
  cases.push_back(
      {"conv_transpose1d", one<T, ConvTranspose1d>(ConvTranspose1dOptions{kFeatures, 4, 3, 2, 1, 1, 1, 1, true})});
  cases.push_back({"batch_norm2d", one<T, BatchNorm>(ptrdiff_t(1), 1e-5, 0.1, true, true)});
}

template <class T>
void add_joins(std::vector<Case<T>>& cases) {
  cases.push_back({"add", two<T, Add>(), false, 2});
  cases.push_back({"multiply", two<T, Multiply>(), false, 2});
  cases.push_back({"subtract", two<T, Subtract>(), false, 2});
  cases.push_back({"average", two<T, Average>(), false, 2});
  cases.push_back({"maximum", two<T, Maximum>(), false, 2});
  cases.push_back({"minimum", two<T, Minimum>(), false, 2});
  cases.push_back({"dot", two<T, Dot>(), false, 2});
  cases.push_back({"concatenate", two<T, Concatenate>(), false, 2});
  for (const double tolerance : {0.0, 0.1})
    cases.push_back({tolerance > 0 ? "hopfield_converging" : "hopfield",
                     two<T, Hopfield>(HopfieldOptions{kFeatures, 1.5, 3, tolerance}), false, 2, kMemorySteps});
  for (const char* score : {"additive", "dot", "scaled_dot", "general"}) {
    cases.push_back({std::string("attention_") + score,
                     two<T, Attention>(ScoringOptions{score, kFeatures, kFeatures, 5}), false, 2, kMemorySteps});
    for (const char* cell : {"gru", "lstm", "rnn_tanh"})
      for (const bool feeds : {true, false}) {
        if (!feeds && std::string(score) == "additive") continue;
        const AttentionDecoderOptions options = {cell, kFeatures, kFeatures, kFeatures, score, 5, feeds, true};
        cases.push_back({std::string(cell) + (feeds ? "_decoder_" : "_decoder_unfed_") + score,
                         two<T, AttentionDecoder>(options), false, 2, kMemorySteps});
      }
  }
}

// States that pass from one layer to another, values with several readers, a state as an output.
template <class T>
void add_graph(std::vector<Case<T>>& cases) {
  cases.push_back({"graph",
                   [](const Devices& devices) {
                     GraphSpec<T> graph;
                     const auto dense = std::make_shared<Dense<T>>(devices, kFeatures, kFeatures, true);
                     RecurrentOptions options = recurrent("gru"), decoder = recurrent("lstm");
                     graph.inputs = {{}, {}};
                     graph.nodes = {
                         {dense, {0}},                                                             // 2
                         {std::make_shared<Recurrent<T>>(devices, options), {2}},                  // 3, state 4
                         {dense, {1}},                                                             // 5
                         {std::make_shared<Add<T>>(devices), {5, 1}},                              // 6
                         {std::make_shared<Recurrent<T>>(devices, decoder), {6}, {4, kOwnState}},  // 7, states 8 and 9
                         {std::make_shared<Concatenate<T>>(devices), {7, 6}},                      // 10
                     };
                     graph.outputs = {10, 8, 4};
                     return graph;
                   },
                   false, 2, kMemorySteps});
}

template <class T>
std::vector<Case<T>> all_cases() {
  std::vector<Case<T>> cases;
  add_recurrent(cases);
  add_cell_activations(cases);
  add_plain(cases);
  add_windows(cases);
  add_images(cases);
  add_joins(cases);
  add_graph(cases);
  return cases;
}

// A program on one device, and whatever a test has seen of it: bits to compare.
template <class T>
class Trial {
 public:
  Trial(const Case<T>& c, const Devices& devices) : case_(c), devices_(devices) {
    program_ = std::make_shared<Program<T>>(c.make(devices), c.name);
    for (const auto& node : program_->graph().nodes()) set_parameters(*node.layer);
    for (ptrdiff_t i = 0; i < c.inputs; ++i) {
      const ptrdiff_t steps = i ? c.other_steps : kSteps;
      x_.push_back(numbers<T>(size_t(kRows * steps * kFeatures), int(i) + 2));
      for (T& value : x_.back()) value += T(0.51);  // roots and logarithms
      lengths_.push_back({steps, 0, steps - 2});
    }
    for (ptrdiff_t i = 0; i < kRows * kSteps; ++i) {
      tokens_.push_back(i * 7 % kTokens);
      reset_.push_back(i % 5 == 3);
    }
  }

  std::vector<std::vector<T>> run() {
    forward();
    backward();
    move();
    optimise();
    forward();
    if (program_->graph().streamable() && case_.other_steps == kSteps) stream();
    return std::move(seen_);
  }

 private:
  std::vector<Value<T>> inputs(ptrdiff_t begin, ptrdiff_t steps, bool ragged) const {
    std::vector<Value<T>> made;
    for (size_t i = 0; i < size_t(case_.inputs); ++i) {
      const bool other = i && case_.other_steps != kSteps;
      const ptrdiff_t all = i ? case_.other_steps : kSteps;
      Value<T> value = {};
      value.batch = {kRows, other ? all : steps, ragged ? lengths_[i].data() : nullptr, nullptr, 0, 0};
      if (case_.resets) {
        value.batch.reset = reset_.data() + begin;
        value.batch.reset_row = kSteps;
        value.batch.reset_step = 1;
      }
      value.features = case_.tokens ? 1 : kFeatures;
      if (case_.tokens)
        value.x.tokens = {tokens_.data() + begin, kSteps, 1};
      else
        value.x.features = {x_[i].data() + (other ? 0 : begin * kFeatures), all * kFeatures, kFeatures};
      made.push_back(value);
    }
    return made;
  }

  ptrdiff_t state_size() const { return program_->state_size(); }
  std::vector<T> state() const { return numbers<T>(size_t(kRows * state_size()), 9); }

  // Arrays for the outputs of a call, kept to be compared.
  std::vector<Sequence<T>> room(const Value<T>* values) {
    std::vector<Sequence<T>> y;
    for (ptrdiff_t v : program_->graph().outputs()) {
      const Value<T>& value = values[v];
      seen_.emplace_back(size_t(kRows * value.batch.steps * value.features), T(0));
      y.push_back({seen_.back().data(), value.batch.steps * value.features, value.features});
    }
    return y;
  }

  void forward() {
    Memory memory(devices_);
    const std::vector<Value<T>> x = inputs(0, kSteps, true);
    Value<T>* values = program_->graph().plan(x.data(), memory.host);
    const std::vector<Sequence<T>> y = room(values);
    const std::vector<T> begin = state();
    seen_.emplace_back(begin.size());
    program_->forward({x.data(), {begin.data(), state_size()}}, values, y.data(), {seen_.back().data(), state_size()},
                      memory);
  }

  std::shared_ptr<Tape<T>> record(const TapeBlock& block = {}) {
    return call([&](const ProgramInput<T>& input, const RecordOptions& options) {
      return program_->record(input, options, block);
    });
  }
  template <class F>
  auto call(const F& f) const {
    const std::vector<Value<T>> x = inputs(0, kSteps, true);
    const bool wanted[2] = {true, true};
    const std::vector<T> begin = state();
    RecordOptions options;
    options.input_grad = wanted;
    options.random = {5, 2};
    return f(ProgramInput<T>{x.data(), {begin.data(), state_size()}}, options);
  }

  void backward() { run_backward(*record()); }

  // What a tape holds and gives: its outputs and final state, the gradients of inputs, states and parameters.
  void run_backward(Tape<T>& tape) {
    std::vector<std::vector<T>> dy;
    std::vector<Sequence<const T>> dy_rows;
    for (size_t i = 0; i < program_->graph().outputs().size(); ++i) {
      const Value<T>& y = tape.output(ptrdiff_t(i));
      const size_t n = size_t(kRows * y.batch.steps * y.features);
      dy.push_back(numbers<T>(n, 4));
      dy_rows.push_back({dy.back().data(), y.batch.steps * y.features, y.features});
      const HostAccess access(devices_);
      seen_.emplace_back(y.x.features.data, y.x.features.data + n);
    }
    const size_t states = size_t(kRows * state_size());
    {
      const HostAccess access(devices_);
      seen_.emplace_back(tape.final_state(), tape.final_state() + states);
    }
    std::vector<Sequence<T>> dx(size_t(case_.inputs));
    for (size_t i = 0; i < dx.size() && !case_.tokens; ++i) {
      seen_.emplace_back(x_[i].size(), T(0));
      const ptrdiff_t steps = i ? case_.other_steps : kSteps;
      dx[i] = {seen_.back().data(), steps * kFeatures, kFeatures};
    }
    const std::vector<T> dfinal = numbers<T>(states, 6);
    std::vector<T> dstate(states);
    tape.backward(dy_rows.data(), {dfinal.data(), state_size()}, dx.data(), {dstate.data(), state_size()}, nullptr);
    seen_.push_back(dstate);
    for (const auto& node : program_->graph().nodes()) {
      const Parameters<T>& parameters = *node.layer->parameters();
      const HostAccess access(devices_);
      seen_.emplace_back(parameters.grads(), parameters.grads() + parameters.size());
    }
    chosen_gradients(*record(), dy_rows, dfinal);
  }

  // Into buffers that the caller chose, and from there into others: the bits of the layers' own.
  void chosen_gradients(Tape<T>& tape, const std::vector<Sequence<const T>>& dy, const std::vector<T>& dfinal) {
    Arena memory(devices_.memory);
    std::vector<std::unique_ptr<GradientBuffer<T>>> buffers[2];
    GradientBuffers<T> to;
    for (const auto& node : program_->graph().nodes())
      for (auto& list : buffers) {
        const std::shared_ptr<Parameters<T>>& parameters = node.layer->parameters();
        if (!parameters->size()) continue;
        T* const data = memory.take<T>(size_t(parameters->size()));
        fill_flat(devices_.of<T>(), data, parameters->size(), T(0));
        list.push_back(std::make_unique<GradientBuffer<T>>(parameters, data));
      }
    for (const auto& buffer : buffers[0]) to.push_back(buffer.get());
    const std::vector<Sequence<T>> dx(size_t(case_.inputs));
    std::vector<T> dstate(dfinal.size());
    tape.backward(dy.data(), {dfinal.data(), state_size()}, dx.data(), {dstate.data(), state_size()}, nullptr, &to);
    for (size_t i = 0; i < to.size(); ++i) {
      Parameters<T>& parameters = *to[i]->parameters();
      if (find_gradient<T>(&to, parameters) != &to[i]->gradient()) continue;  // of a shared layer
      const Gradient<T>& sum = buffers[1][i]->gradient();
      buffers[1][i]->gradient().add(to[i]->gradient());
      const HostAccess access(devices_);
      EXPECT_EQ(std::memcmp(sum.data(), parameters.grads(), size_t(parameters.size()) * sizeof(T)), 0) << case_.name;
    }
  }

  // The same by a tape in a block, which is moved, and opened twice where it has come to lie.
  void move() {
    const std::vector<std::vector<T>> before = std::move(seen_);
    const auto expect_same = [&](Tape<T>& tape) {
      for (const auto& node : program_->graph().nodes()) node.layer->parameters()->gradient().zero();
      seen_.clear();
      run_backward(tape);
      expect_bits(seen_, plain_);
    };
    const auto plain = record();
    plain_.clear();
    for (const auto& node : program_->graph().nodes()) node.layer->parameters()->gradient().zero();
    seen_.clear();
    run_backward(*plain);
    plain_ = std::move(seen_);

    const size_t size = call([&](const ProgramInput<T>& input, const RecordOptions& options) {
      return program_->tape_bytes(input, options);
    });
    auto first = std::make_unique<GuardedBlock>(devices_, size);
    expect_same(*record(first->block()));
    EXPECT_TRUE(first->is_untouched_outside());
    GuardedBlock second(devices_, size, 13 * Arena::kAlignment);
    second.copy(*first);
    first->spoil();
    record(first->block());  // another call between
    first.reset();
    second.seal();
    const auto once = program_->open(second.block()), again = program_->open(second.block());
    expect_same(*again);
    expect_same(*once);
    EXPECT_TRUE(second.is_untouched_outside());
    seen_ = before;
  }

  void optimise() {
    const StepOptions common = {0.01, 0.1, 0.5, 1, 1};
    for (const auto& node : program_->graph().nodes()) {
      Parameters<T>& parameters = *node.layer->parameters();
      const ptrdiff_t n = parameters.size();
      if (!n) continue;
      const Device<T>& device = devices_.of<T>();
      const Norm norm = gradient_norm<T>(device, parameters.grads(), n, 1, 0.2, nullptr, 0);
      seen_.push_back({T(norm.sum), T(norm.count)});
      Arena own(devices_.memory);
      T* moments = own.take<T>(size_t(3 * n));
      fill_flat(device, moments, 3 * n, T(0));
      sgd_step(device, parameters.values(), parameters.grads(), moments, n, common, {0.9, true});
      adam_step(device, parameters.values(), parameters.grads(), moments, moments + n, n, common,
                {1, 0.9, 0.99, 1e-8, false, true});
      rmsprop_step<T>(device, parameters.values(), parameters.grads(), moments + 2 * n, nullptr, nullptr, n, common,
                      {0.9, 1e-8, 0});
      parameters.touch();
      parameters.gradient().zero();
      const HostAccess access(devices_);
      seen_.emplace_back(parameters.values(), parameters.values() + n);
      seen_.emplace_back(parameters.grads(), parameters.grads() + n);
    }
  }

  void stream() {
    Stream<T> stream(program_, kRows);
    const std::vector<T> begin = state();
    stream.load(begin.data());
    ptrdiff_t at = 0;
    for (const ptrdiff_t steps : {1, 1, 3, 1}) {
      const std::vector<Value<T>> x = inputs(at, steps, false);
      Memory memory(devices_);
      const std::vector<Sequence<T>> y = room(program_->graph().plan(x.data(), memory.host));
      stream.run(x.data(), y.data(), nullptr);
      at += steps;
    }
    some_rows(stream);
    const int64_t row = 1;
    stream.reset({&row, 1});
    const auto copies = stream.fork(2);
    const HostAccess access(devices_);
    seen_.emplace_back(copies->state(), copies->state() + 2 * kRows * state_size());
  }

  // Steps, chunks, copies and states of rows 2 and 0.
  void some_rows(Stream<T>& stream) {
    const int64_t listed[2] = {2, 0}, copied[2] = {0, 1};
    const RowList list = {listed, 2};
    ptrdiff_t at = 0;
    for (const ptrdiff_t steps : {1, 2, 1}) {
      std::vector<Value<T>> x = inputs(at, steps, false);
      for (Value<T>& value : x) value.batch.rows = 2;
      Memory memory(devices_);
      const std::vector<Sequence<T>> y = room(program_->graph().plan(x.data(), memory.host));
      stream.run(x.data(), y.data(), nullptr, list);
      at += steps;
    }
    stream.copy(listed, copied, 2);
    const uint64_t moves = stream.moves();
    stream.reset(list);
    stream.undo(moves);
    seen_.emplace_back(size_t(2 * state_size()));
    stream.read(list, seen_.back().data());
    stream.load(seen_.back().data(), {copied, 2});
  }

  const Case<T>& case_;
  const Devices& devices_;
  std::shared_ptr<Program<T>> program_;
  std::vector<std::vector<T>> x_, seen_, plain_;
  std::vector<std::vector<int64_t>> lengths_;
  std::vector<int64_t> tokens_;
  std::vector<uint8_t> reset_;
};

template <class T>
void compare(const Case<T>& c) {
  SCOPED_TRACE(c.name);
  begin_fence_case(c.name.c_str());
  const auto plain = Trial<T>(c, cpu_devices()).run();
  expect_bits(Trial<T>(c, fenced_devices()).run(), plain);
}

TEST(Fence, EveryLayerInFloatHasThePlainDevicesBits) {
  for (const Case<float>& c : all_cases<float>()) compare(c);
}
TEST(Fence, EveryLayerInDoubleHasThePlainDevicesBits) {
  for (const Case<double>& c : all_cases<double>()) compare(c);
}

TEST(Fence, ThreadsOfAnOperationAreInsideTheFence) {
  const int threads = num_threads();
  set_num_threads(3);
  set_eager(true);
  for (const Case<float>& c : all_cases<float>())
    for (const char* name : {"deep", "conv_same", "graph", "gru_decoder_dot"})
      if (c.name == name) compare(c);
  set_eager(false);
  set_num_threads(threads);
}

// Tokens, scores and weights of all hypotheses.
template <class T>
std::vector<double> searched(const Devices& devices, bool attends) {
  RecurrentOptions cell = recurrent("lstm");
  const AttentionDecoderOptions decoder = {"gru", kFeatures, 9, kFeatures, "additive", 5, true, true};
  Layers<T> layers = {std::make_shared<Embedding<T>>(devices, kTokens, kFeatures, false),
                      std::make_shared<Recurrent<T>>(devices, cell),
                      std::make_shared<Dense<T>>(devices, 9, kTokens, true)};
  if (attends) layers[1] = std::make_shared<AttentionDecoder<T>>(devices, decoder);
  for (const auto& layer : layers) set_parameters(*layer);
  const Search<T> search(layers);
  const std::vector<T> memory = numbers<T>(size_t(kRows * kMemorySteps * kFeatures), 3);
  const std::vector<T> state = numbers<T>(size_t(kRows * search.state_size()), 4);
  const int64_t lengths[kRows] = {5, 2, 3};
  const OtherInput<T> looked_at = {
      {kRows, kMemorySteps, lengths, nullptr, 0, 0}, kFeatures, {memory.data(), kMemorySteps * kFeatures, kFeatures}};
  const SearchOptions options = {1, 2, 6, 3, 2, 0.5};
  std::vector<double> seen;
  for (const auto& row :
       search.run(kRows, {state.data(), search.state_size()}, attends ? &looked_at : nullptr, options, 1, nullptr))
    for (const Hypothesis<T>& h : row) {
      seen.push_back(h.score);
      seen.insert(seen.end(), h.tokens.begin(), h.tokens.end());
      seen.insert(seen.end(), h.log_probs.begin(), h.log_probs.end());
      seen.insert(seen.end(), h.weights.begin(), h.weights.end());
    }
  return seen;
}

TEST(Fence, SearchesFindThePlainDevicesHypotheses) {
  for (const bool attends : {false, true}) {
    EXPECT_EQ(searched<float>(fenced_devices(), attends), searched<float>(cpu_devices(), attends));
    EXPECT_EQ(searched<double>(fenced_devices(), attends), searched<double>(cpu_devices(), attends));
  }
}

// What is drawn from two outputs, tokens and a mixture's points, by rows with prompts of different lengths.
template <class T>
std::vector<double> generated(const Devices& devices) {
  constexpr ptrdiff_t kTokens = 6;
  const Mixture mixture = {2, 2, true, true, 1e-3};
  std::vector<std::shared_ptr<Layer<T>>> layers = {std::make_shared<Embedding<T>>(devices, kTokens, 3),
                                                   std::make_shared<Dense<T>>(devices, 3, kTokens, true),
                                                   std::make_shared<Dense<T>>(devices, 3, mixture.predictions(), true)};
  for (const auto& layer : layers) set_parameters(*layer);
  GraphSpec<T> graph = {{{Axis::kSequence, kTokens}, {Axis::kSequence, 3}},
                        {{layers[0], {0}}, {layers[1], {2}}, {layers[2], {1}}},
                        {3, 4}};
  const auto program = std::make_shared<Program<T>>(graph, "test");
  const std::vector<int64_t> tokens = {0, 1, 2, 3, 4, 5, 0, 1, 2}, lengths = {3, 1, 2};
  const std::vector<T> points = numbers<T>(27, 5);
  const Batch batch = {3, 3, lengths.data(), nullptr, 0, 0};
  HeadOptions words, pen = {HeadKind::kMixture};
  words.penalty = 1.3;
  words.top_p = 0.9;
  words.stops = {5};
  pen.mixture = mixture;
  Generation<T> generation(
      program, {{batch, 1, false, {{}, {tokens.data(), 3, 1}}}, {batch, 3, false, {{points.data(), 9, 3}, {}}}}, {},
      {{{GenerationInput::kFed, 0}, {GenerationInput::kFed, 1}}, {words, pen}, 12, 7, {0, 1, 2}, 0});
  generation.run(5, nullptr);
  generation.run(7, nullptr);
  const Generated<T> made = generation.generated();
  std::vector<double> seen(made.lengths.begin(), made.lengths.end());
  for (const auto& output : made.outputs) {
    seen.insert(seen.end(), output.tokens.begin(), output.tokens.end());
    seen.insert(seen.end(), output.vectors.begin(), output.vectors.end());
    seen.insert(seen.end(), output.log_probs.begin(), output.log_probs.end());
  }
  return seen;
}

TEST(Fence, GenerationsDrawThePlainDevicesSamples) {
  EXPECT_EQ(generated<float>(fenced_devices()), generated<float>(cpu_devices()));
  EXPECT_EQ(generated<double>(fenced_devices()), generated<double>(cpu_devices()));
}

// The sums of all losses of predictions that live on the device, and their gradients.
template <class T>
std::vector<std::vector<double>> lost(const Devices& devices) {
  constexpr ptrdiff_t kWidth = 8;
  const Device<T>& device = devices.of<T>();
  const size_t n = size_t(kRows * kSteps * kWidth);
  Arena memory(devices.memory);
  T *predictions = memory.take<T>(n), *targets = memory.take<T>(n), *gradient = memory.take<T>(n);
  copy_flat<T>(device, numbers<T>(n, 1).data(), ptrdiff_t(n), predictions);
  copy_flat<T>(device, numbers<T>(n, 2).data(), ptrdiff_t(n), targets);
  const auto rows = [](auto* data, ptrdiff_t width) {
    return Sequence<std::remove_pointer_t<decltype(data)>>{data, kSteps * width, width};
  };
  const int64_t lengths[kRows] = {7, 0, 5};
  LossBatch batch = {};
  static_cast<Batch&>(batch) = {kRows, kSteps, lengths, nullptr, 0, 0};
  std::vector<int64_t> labels;
  for (ptrdiff_t i = 0; i < kRows * kSteps; ++i) labels.push_back(i * 3 % kWidth);
  std::vector<std::vector<double>> seen;
  const auto note = [&](double loss) {
    const HostAccess access(devices);
    seen.emplace_back(gradient, gradient + n);
    seen.back().push_back(loss);
    std::fill_n(gradient, n, T(0));
  };
  fill_flat(device, gradient, ptrdiff_t(n), T(0));
  const Sequence<const T> x = rows(static_cast<const T*>(predictions), kWidth);
  const Sequence<T> d = rows(gradient, kWidth);
  const std::vector<double> quantiles = {0.1, 0.9};
  const Mixture mixture = {2, 1, false, true, 1e-3};  // 7 predictions
  const std::pair<LossOptions, ptrdiff_t> losses[] = {
      {{LossKind::kBinaryCrossEntropy}, kWidth},      {{LossKind::kSquaredError}, kWidth},
      {{LossKind::kAbsoluteError}, kWidth},           {{LossKind::kHuber, 0.3}, kWidth},
      {{LossKind::kQuantile, 0, &quantiles}, 4},      {{LossKind::kGaussian, 1e-6}, 4},
      {{LossKind::kMixture, 0, nullptr, &mixture}, 1}};
  for (const auto& [options, features] : losses)
    note(device.step_loss({options, &batch, features, x, rows(static_cast<const T*>(targets), kWidth), d}));
  note(device.label_loss({&batch, kWidth, x, rows(static_cast<const int64_t*>(labels.data()), 1), {}, d}));
  bool feasible[kRows];
  const int64_t wanted[kRows * 2] = {1, 2, -1, -1, 3, 3};
  note(device.ctc({&batch, kWidth, 0, x, {wanted, 2}, d, feasible}));
  const Chain chain(kWidth, numbers<double>(kWidth * kWidth, 5), numbers<double>(kWidth, 6),
                    numbers<double>(kWidth, 7));
  std::vector<double> of_chain(size_t(chain.parameters()));
  note(device.crf({&batch, &chain, x, labels.data(), nullptr, d, of_chain.data()}));
  seen.push_back(of_chain);
  std::vector<int64_t> tags(labels.size());
  std::vector<double> best(kRows);
  device.crf_viterbi(batch, chain, x, tags.data(), best.data(), nullptr);
  seen.emplace_back(tags.begin(), tags.end());
  seen.push_back(best);
  device.crf_marginals(batch, chain, x, d, nullptr);
  note(0);
  for (const CtcHypothesis& row : ctc_greedy(device, batch, kWidth, 0, x, nullptr))
    seen.push_back({row.log_probability});
  for (const auto& row : ctc_beam_search(device, batch, kWidth, 0, 4, 2, x, nullptr))
    for (const CtcHypothesis& one : row) seen.push_back({one.log_probability});
  return seen;
}

TEST(Fence, LossesHaveThePlainDevicesBits) {
  EXPECT_EQ(lost<float>(fenced_devices()), lost<float>(cpu_devices()));
  EXPECT_EQ(lost<double>(fenced_devices()), lost<double>(cpu_devices()));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(FenceDeathTest, ALookOutsideAnOperationEndsTheProcess) {
  const auto layer = std::make_shared<Dense<float>>(fenced_devices(), 3, 2, true);
  const float* values = layer->parameters()->values();
  EXPECT_DEATH(static_cast<void>(*static_cast<const volatile float*>(values)), "looked at a device's memory");
  const HostAccess access(fenced_devices());
  EXPECT_EQ(*values, 0);
}
#endif

}  // namespace
}  // namespace recurra
