// Programs and streams: one call for several layers, and steps that allocate nothing.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>
#include <numeric>

#include "layers/dense.h"
#include "layers/dropout.h"
#include "layers/embedding.h"
#include "layers/merge.h"
#include "layers/recurrent.h"
#include "streamed.h"

namespace {
std::atomic<long> allocations{0};
std::atomic<bool> no_memory{false};
}  // namespace
// Every allocation is counted; but sanitizers bring an operator new of their own, so only the other builds count.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define RECURRA_COUNTS_ALLOCATIONS 1
// Not inline: the compiler would warn of free() for what `new` has made.
__attribute__((noinline)) static void release(void* p) { std::free(p); }
void* operator new(size_t size) {
  ++allocations;
  if (no_memory) throw std::bad_alloc();
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
void* operator new(size_t size, std::align_val_t align) {
  ++allocations;
  const size_t a = size_t(align);
  if (void* p = std::aligned_alloc(a, (size + a - 1) / a * a)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { release(p); }
void operator delete(void* p, size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { release(p); }
#endif

namespace recurra {
namespace {

std::shared_ptr<Program<float>> language_model() {
  RecurrentOptions options;
  options.cell = "lstm";
  options.input_size = 8;
  options.hidden_size = 20;
  options.num_layers = 2;
  std::vector<std::shared_ptr<Layer<float>>> layers = {std::make_shared<Embedding<float>>(cpu_devices(), 30, 8),
                                                       std::make_shared<Recurrent<float>>(cpu_devices(), options),
                                                       std::make_shared<Dropout<float>>(cpu_devices(), 0.5),
                                                       std::make_shared<Dense<float>>(cpu_devices(), 20, 30, true)};
  for (const auto& layer : layers) {
    for (ptrdiff_t i = 0; i < layer->parameters()->size(); ++i)
      layer->parameters()->values()[i] = float((i * 37) % 101 - 50) / 100;
    layer->parameters()->touch();
  }
  return std::make_shared<Program<float>>(layers, "model");
}

constexpr ptrdiff_t kRows = 3, kSteps = Streamed::kSteps;

std::vector<int64_t> tokens() {
  std::vector<int64_t> x;
  for (int64_t i = 0; i < kRows * kSteps; ++i) x.push_back(i * 7 % 30);
  return x;
}

Value<float> token_input(const std::vector<int64_t>& x) {
  return {{kRows, kSteps, nullptr, nullptr, 0, 0}, 1, false, {{}, {x.data(), kSteps, 1}}};
}

// A whole call; outputs and final state.
template <class T>
std::vector<std::vector<T>> outputs_of(const Program<T>& program, const std::vector<Value<T>>& inputs) {
  Memory memory(program.devices());
  Value<T>* values = program.graph().plan(inputs.data(), memory.host);
  std::vector<std::vector<T>> made;
  std::vector<Sequence<T>> y;
  for (ptrdiff_t v : program.graph().outputs()) {
    const Value<T>& value = values[v];
    made.emplace_back(size_t(value.batch.rows * value.batch.steps * value.features));
    y.push_back({made.back().data(), value.batch.steps * value.features, value.features});
  }
  made.emplace_back(size_t(inputs[0].batch.rows * program.state_size()));
  program.forward({inputs.data(), {}}, values, y.data(), {made.back().data(), program.state_size()}, memory);
  return made;
}

TEST(Stream, StepsGiveTheSequencesBitsAndAllocateNothing) {
  const auto program = language_model();
  const auto x = tokens();
  const ptrdiff_t size = program->state_size();
  const auto whole = outputs_of(*program, {token_input(x)});
  std::vector<float> stepped(whole[0].size());

  Stream<float> stream(program, kRows);
  long before = 0;
  for (ptrdiff_t t = 0; t < kSteps; ++t) {
    if (t == 1) before = allocations;
    const Value<float> step = {{kRows, 1, nullptr, nullptr, 0, 0}, 1, false, {{}, {x.data() + t, kSteps, 1}}};
    const Sequence<float> y = {stepped.data() + t * 30, kSteps * 30, 30};
    stream.run(&step, &y, nullptr);
  }
  EXPECT_EQ(allocations - before, 0);
  EXPECT_EQ(whole[0], stepped);
  EXPECT_TRUE(std::equal(whole[1].begin(), whole[1].end(), stream.state()));
  EXPECT_EQ(ptrdiff_t(whole[1].size()), kRows * size);
}

TEST(Stream, StepsAndChunksInAnyOrderGiveTheSequencesBits) {
  for (const char* cell : {"rnn_tanh", "lstm", "gru", "gru_reset_before"})
    for (const ptrdiff_t rows : {1, 4, 9}) {
      const Streamed s(cell, 5, 21, rows);
      Stream<float> stream(s.program, rows), whole(s.program, rows);
      std::vector<float> y = s.output(), expected = s.output();
      s.run(whole, 0, kSteps, expected);
      ptrdiff_t at = 0;
      for (const ptrdiff_t steps : {1, 1, 3, 1, 0, 4, 1, 1}) {
        s.run(stream, at, steps, y);
        at += steps;
      }
      ASSERT_EQ(at, kSteps);
      EXPECT_EQ(y, expected) << cell << ' ' << rows;
      EXPECT_TRUE(std::equal(stream.state(), stream.state() + rows * s.program->state_size(), whole.state()));
    }
}

TEST(Stream, StepsOfALayerThatReturnsItsLastOutput) {
  const Streamed s("lstm", 5, 21, 2, false), sequences("lstm", 5, 21, 2);
  Stream<float> stream(s.program, 2), other(sequences.program, 2);
  std::vector<float> y = s.output(), expected = s.output();
  for (ptrdiff_t t = 0; t < kSteps; ++t) {
    s.run(stream, t, 1, y);
    sequences.run(other, t, 1, expected);
  }
  EXPECT_EQ(y, expected);
}

TEST(Stream, StepsFollowTheParameters) {
  Streamed s("gru", 5, 21, 2);
  Stream<float> stream(s.program, 2), other(s.program, 2);
  std::vector<float> y = s.output(), expected = s.output();
  s.run(stream, 0, 1, y);
  s.set(2);
  const int64_t rows[] = {0, 1};
  stream.reset({rows, 2});
  s.run(stream, 0, 1, y);
  s.run(other, 0, 1, expected);
  EXPECT_EQ(y, expected);
  EXPECT_NE(y[0], 0);
}

TEST(Stream, RefusesASecondThreadWhileItIsInUse) {
  const Streamed s("lstm", 5, 21, 2);
  Stream<float> stream(s.program, 2);
  std::vector<float> y = s.output();
  {
    const Stream<float>::Use use(stream);
    EXPECT_THROW(s.run(stream, 0, 1, y), std::invalid_argument);
    EXPECT_THROW(s.run(stream, 0, 2, y), std::invalid_argument);
    const int64_t row = 0;
    EXPECT_THROW(stream.reset({&row, 1}), std::invalid_argument);
    EXPECT_THROW(stream.copy(&row, &row, 1), std::invalid_argument);
    EXPECT_THROW(stream.read({&row, 1}, y.data()), std::invalid_argument);
    EXPECT_THROW(stream.undo(0), std::invalid_argument);
    EXPECT_THROW(stream.fork(2), std::invalid_argument);
  }
  s.run(stream, 0, 1, y);
  EXPECT_NE(y[0], 0);
}

TEST(Stream, StepsOfSomeRowsAllocateNothingOnceOneWasAsLarge) {
  const Streamed s("lstm", 5, 21, 6);
  Stream<float> stream(s.program, 6);
  std::vector<float> y = s.output();
  const auto step = [&](const std::vector<int64_t>& list) {
    const StepInput<float> input = {s.x.data(), kSteps * s.inputs, {}};
    const StepOutput<float> to = {y.data(), s.outputs};
    ProgramStepCall<float> call = {&input, &to, nullptr, 0, 0, {}, {}};
    stream.step(call, {list.data(), ptrdiff_t(list.size())});
  };
  const std::vector<std::vector<int64_t>> lists = {{5, 0, 3, 1}, {2}, {4, 2, 1}, {}, {0, 1, 2, 3}, {5}};
  step(lists[0]);
  const long before = allocations;
  for (const auto& list : lists) step(list);
  EXPECT_EQ(allocations - before, 0);
}

#if defined(RECURRA_COUNTS_ALLOCATIONS)
TEST(Stream, AStepThatFindsNoMemoryLeavesTheState) {
  Streamed s("lstm", 5, 21, 2);
  Stream<float> stream(s.program, 2);
  std::vector<float> y = s.output();
  const auto fails = [&](ptrdiff_t t) {
    const std::vector<float> before(stream.state(), stream.state() + 2 * s.program->state_size());
    no_memory = true;
    EXPECT_THROW(s.run(stream, t, 1, y), std::bad_alloc);
    no_memory = false;
    EXPECT_TRUE(std::equal(before.begin(), before.end(), stream.state()));
    s.run(stream, t, 1, y);
    EXPECT_FALSE(std::equal(before.begin(), before.end(), stream.state()));
  };
  fails(0);  // nothing is prepared yet
  s.set(2);
  fails(1);  // the weights are to be packed again
}
#endif

TEST(Stream, ForkRepeatsRowsAndResetClearsThem) {
  Stream<float> stream(language_model(), 2);
  const ptrdiff_t size = stream.program().state_size();
  std::vector<float> state(size_t(2 * size));
  std::iota(state.begin(), state.end(), 0.0f);
  stream.load(state.data());
  const auto twins = stream.fork(3);
  ASSERT_EQ(twins->rows(), 6);
  for (ptrdiff_t r = 0; r < 6; ++r)
    for (ptrdiff_t k = 0; k < size; ++k) ASSERT_EQ(twins->state()[r * size + k], float(r / 3 * size + k));
  const int64_t row = 1;
  twins->reset({&row, 1});
  EXPECT_EQ(twins->state()[size], 0);
  EXPECT_EQ(twins->state()[2 * size + 1], 1);
  EXPECT_EQ(stream.state()[1], 1);
}

TEST(Tape, WorksOnceAndRefusesChangedWeights) {
  const auto program = language_model();
  const auto x = tokens();
  const Value<float> values = token_input(x);
  const ProgramInput<float> input = {&values, {}};
  const std::vector<float> dy(size_t(kRows * kSteps * 30), 1.0f);
  std::vector<float> dstate(size_t(kRows * program->state_size()));
  const auto backward = [&](Tape<float>& tape) {
    const Sequence<const float> gradient = {dy.data(), kSteps * 30, 30};
    const Sequence<float> none = {};
    tape.backward(&gradient, {}, &none, {dstate.data(), program->state_size()}, nullptr);
  };
  const auto tape = program->record(input, {});
  const auto other = program->record(input, {});
  EXPECT_GT(tape->bytes(), 0u);
  backward(*tape);
  EXPECT_THROW(backward(*tape), std::invalid_argument);
  backward(*other);
  const auto late = program->record(input, {});
  late->close();
  EXPECT_THROW(backward(*late), std::invalid_argument);
}

// An encoder whose final state begins a decoder over another time axis; a layer used three times; values with several
// readers; a sequence and a state as outputs.
struct Translator {
  static constexpr ptrdiff_t kFeatures = 3, kHidden = 4, kRows = 3, kLong = 5, kShort = 2;
  std::vector<std::shared_ptr<Layer<double>>> layers;
  std::shared_ptr<Program<double>> program;
  std::vector<double> x[2];
  std::vector<int64_t> lengths[2] = {{5, 0, 3}, {1, 2, 0}};

  Translator() {
    const auto rnn = [](const char* cell) {
      RecurrentOptions options;
      options.cell = cell;
      options.input_size = kFeatures;
      options.hidden_size = kHidden;
      return std::make_shared<Recurrent<double>>(cpu_devices(), options);
    };
    const auto shared = std::make_shared<Dense<double>>(cpu_devices(), kFeatures, kFeatures, true);
    const auto encoder = rnn("gru"), decoder = rnn("lstm");
    const auto add = std::make_shared<Add<double>>(cpu_devices());
    const auto concatenate = std::make_shared<Concatenate<double>>(cpu_devices());
    layers = {shared, encoder, decoder};
    for (const auto& layer : layers) {
      for (ptrdiff_t i = 0; i < layer->parameters()->size(); ++i)
        layer->parameters()->values()[i] = double((i * 37) % 101 - 50) / 90;
      layer->parameters()->touch();
    }
    GraphSpec<double> graph;
    graph.inputs = {{}, {}};
    graph.nodes = {
        {shared, {0}},                   // 2
        {encoder, {2}},                  // 3, state 4
        {shared, {1}},                   // 5
        {shared, {5}},                   // 6
        {add, {5, 6, 1}},                // 7
        {decoder, {7}, {4, kOwnState}},  // 8, states 9 and 10
        {concatenate, {8, 8, 7}},        // 11
    };
    graph.outputs = {11, 9, 4};
    program = std::make_shared<Program<double>>(graph, "translator");
    for (ptrdiff_t k = 0; k < 2; ++k)
      for (ptrdiff_t i = 0; i < kRows * (k ? kShort : kLong) * kFeatures; ++i)
        x[k].push_back(double((i * 29 + k) % 83 - 41) / 40);
  }
  std::vector<Value<double>> inputs() {
    std::vector<Value<double>> made;
    for (ptrdiff_t k = 0; k < 2; ++k) {
      const ptrdiff_t steps = k ? kShort : kLong;
      made.push_back({{kRows, steps, lengths[k].data(), nullptr, 0, 0},
                      kFeatures,
                      false,
                      {{x[k].data(), steps * kFeatures, kFeatures}, {}}});
    }
    return made;
  }
  static double weight(size_t i) { return double((i * 13) % 29) / 14 - 1; }
  double loss() {
    const auto y = outputs_of(*program, inputs());
    double sum = 0;
    for (const auto& part : y)
      for (size_t i = 0; i < part.size(); ++i) sum += weight(i) * part[i];
    return sum;
  }
};

TEST(Graph, GradientsAreThoseOfCentralDifferences) {
  Translator t;
  const auto y = outputs_of(*t.program, t.inputs());
  ASSERT_EQ(y.size(), 4u);
  ASSERT_EQ(t.program->state_size(), 2 * Translator::kHidden);  // the encoder's h, the decoder's c
  std::vector<std::vector<double>> dy;
  for (const auto& part : y) {
    dy.emplace_back();
    for (size_t i = 0; i < part.size(); ++i) dy.back().push_back(Translator::weight(i));
  }
  const auto values = t.inputs();
  const bool wanted[2] = {true, true};
  RecordOptions options;
  options.input_grad = wanted;
  const auto tape = t.program->record({values.data(), {}}, options);
  std::vector<Sequence<const double>> gradients;
  for (ptrdiff_t i = 0; i < 3; ++i) {
    const Value<double>& output = tape->output(i);
    gradients.push_back({dy[size_t(i)].data(), output.batch.steps * output.features, output.features});
    for (ptrdiff_t r = 0; r < Translator::kRows; ++r)
      for (ptrdiff_t s = 0; s < output.batch.steps * output.features; ++s)
        ASSERT_EQ(output.x.features.at(r, 0)[s], y[size_t(i)][size_t(r * output.batch.steps * output.features + s)]);
  }
  std::vector<double> dx[2] = {t.x[0], t.x[1]}, dstate(y[3].size(), 7);
  std::vector<Sequence<double>> to;
  for (ptrdiff_t k = 0; k < 2; ++k) {
    const auto& from = values[size_t(k)].x.features;
    to.push_back({dx[k].data(), from.row_stride, from.step_stride});
  }
  const ptrdiff_t size = t.program->state_size();
  tape->backward(gradients.data(), {dy[3].data(), size}, to.data(), {dstate.data(), size}, nullptr);

  const auto difference = [&](double& variable, const std::function<void()>& touch) {
    constexpr double kStep = 1e-5;
    const double kept = variable;
    const auto at = [&](double value) {
      variable = value;
      touch();
      return t.loss();
    };
    const double slope = (at(kept + kStep) - at(kept - kStep)) / (2 * kStep);
    at(kept);
    return slope;
  };
  for (ptrdiff_t k = 0; k < 2; ++k)
    for (size_t i = 0; i < dx[k].size(); ++i) EXPECT_NEAR(dx[k][i], difference(t.x[k][i], [] {}), 1e-6);
  for (const auto& layer : t.layers) {
    const auto& parameters = layer->parameters();
    for (ptrdiff_t i = 0; i < parameters->size(); ++i)
      EXPECT_NEAR(parameters->grads()[i], difference(parameters->values()[i], [&] { parameters->touch(); }), 1e-6);
  }
}

// Reads two time axes: y = x * (the sum of the other input's valid steps).
class Scaled final : public Layer<double> {
 public:
  explicit Scaled(const Devices& devices) : Layer<double>(devices) {}
  const char* kind() const override { return "scaled"; }
  ptrdiff_t inputs() const override { return 2; }
  ptrdiff_t input_size() const override { return 0; }
  ptrdiff_t other_size(ptrdiff_t) const override { return 1; }
  ptrdiff_t output_size() const override { return 0; }
  double work() const override { return 1; }
  void forward(const Run&, const LayerForward<double>& call) override {
    for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
      for (ptrdiff_t s = 0; s < call.batch.length(r); ++s)
        for (ptrdiff_t k = 0; k < call.features; ++k)
          call.y.at(r, s)[k] = call.x.features.at(r, s)[k] * sum(call.others[0], r);
  }
  void backward(const Run&, const LayerBackward<double>& call, LayerTape<double>&, Memory&) override {
    const OtherInput<double>& other = call.others[0];
    for (ptrdiff_t r = 0; r < call.batch.rows; ++r) {
      double gradient = 0;
      for (ptrdiff_t s = 0; s < call.batch.length(r); ++s)
        for (ptrdiff_t k = 0; k < call.features; ++k) {
          call.dx.at(r, s)[k] = call.dy.at(r, s)[k] * sum(other, r);
          gradient += call.dy.at(r, s)[k] * call.x.features.at(r, s)[k];
        }
      for (ptrdiff_t s = 0; s < other.batch.length(r); ++s) *call.others_dx[0].at(r, s) = gradient;
    }
  }
  void commit(LayerTape<double>&, Gradient<double>&, int) override {}

 private:
  static double sum(const OtherInput<double>& other, ptrdiff_t r) {
    double sum = 0;
    for (ptrdiff_t s = 0; s < other.batch.length(r); ++s) sum += *other.x.at(r, s);
    return sum;
  }
};

TEST(Graph, OtherInputsHaveTimeAxesOfTheirOwn) {
  GraphSpec<double> graph;
  graph.inputs = {{}, {}};
  graph.nodes = {{std::make_shared<Scaled>(cpu_devices()), {0, 1}}, {std::make_shared<Scaled>(cpu_devices()), {2, 1}}};
  graph.outputs = {3};
  const auto program = std::make_shared<Program<double>>(graph, "scaled");
  constexpr ptrdiff_t kX = 4, kOther = 3;
  std::vector<double> x, other, dy, dx(2 * kX * 2), dother(2 * kOther);
  for (ptrdiff_t i = 0; i < 2 * kX * 2; ++i) x.push_back(double(i % 7) - 2.5), dy.push_back(double(i % 5) - 1.5);
  for (ptrdiff_t i = 0; i < 2 * kOther; ++i) other.push_back(double(i) / 4 + 1);
  const int64_t lengths[2][2] = {{4, 2}, {1, 3}};
  const Value<double> inputs[2] = {{{2, kX, lengths[0], nullptr, 0, 0}, 2, false, {{x.data(), kX * 2, 2}, {}}},
                                   {{2, kOther, lengths[1], nullptr, 0, 0}, 1, false, {{other.data(), kOther, 1}, {}}}};
  const bool wanted[2] = {true, true};
  RecordOptions options;
  options.input_grad = wanted;
  const auto tape = program->record({inputs, {}}, options);
  const Sequence<const double> gradient = {dy.data(), kX * 2, 2};
  const Sequence<double> to[2] = {{dx.data(), kX * 2, 2}, {dother.data(), kOther, 1}};
  tape->backward(&gradient, {}, to, {}, nullptr);
  for (ptrdiff_t r = 0; r < 2; ++r) {
    double sum = 0, product = 0;
    for (ptrdiff_t s = 0; s < lengths[1][r]; ++s) sum += other[size_t(r * kOther + s)];
    for (ptrdiff_t i = r * kX * 2; i < (r + 1) * kX * 2; ++i) {
      const bool valid = i - r * kX * 2 < 2 * lengths[0][r];
      EXPECT_DOUBLE_EQ(tape->output(0).x.features.data[i], valid ? x[size_t(i)] * sum * sum : 0);
      EXPECT_DOUBLE_EQ(dx[size_t(i)], valid ? dy[size_t(i)] * sum * sum : 0);
      if (valid) product += x[size_t(i)] * dy[size_t(i)];
    }
    for (ptrdiff_t s = 0; s < kOther; ++s)
      EXPECT_NEAR(dother[size_t(r * kOther + s)], s < lengths[1][r] ? 2 * product * sum : 0, 1e-12);
  }
}

TEST(Graph, StepsThroughBranchesGiveTheSequencesBits) {
  const auto dense = std::make_shared<Dense<float>>(cpu_devices(), 3, 3, true);
  RecurrentOptions options;
  options.cell = "gru";
  options.input_size = 6;
  options.hidden_size = 5;
  const auto gru = std::make_shared<Recurrent<float>>(cpu_devices(), options);
  for (const auto& layer : std::vector<std::shared_ptr<Layer<float>>>{dense, gru}) {
    for (ptrdiff_t i = 0; i < layer->parameters()->size(); ++i)
      layer->parameters()->values()[i] = float((i * 37) % 101 - 50) / 90;
    layer->parameters()->touch();
  }
  GraphSpec<float> graph;
  graph.inputs = {{Axis::kSequence, 3}, {Axis::kSequence, 3}};
  graph.nodes = {{dense, {0}},
                 {std::make_shared<Multiply<float>>(cpu_devices()), {2, 1}},
                 {std::make_shared<Concatenate<float>>(cpu_devices()), {3, 0}},
                 {gru, {4}}};
  graph.outputs = {5, 2};  // the latter is read by another node as well
  const auto program = std::make_shared<Program<float>>(graph, "branches");
  std::vector<float> x[2];
  for (ptrdiff_t i = 0; i < kRows * kSteps * 3; ++i)
    for (ptrdiff_t k = 0; k < 2; ++k) x[k].push_back(float((i * 29 + k) % 83 - 41) / 40);
  const auto input = [&](ptrdiff_t k, ptrdiff_t begin, ptrdiff_t steps) -> Value<float> {
    return {{kRows, steps, nullptr, nullptr, 0, 0}, 3, false, {{x[k].data() + begin * 3, kSteps * 3, 3}, {}}};
  };
  const auto whole = outputs_of(*program, {input(0, 0, kSteps), input(1, 0, kSteps)});
  std::vector<float> y[2] = {std::vector<float>(whole[0].size()), std::vector<float>(whole[1].size())};
  Stream<float> stream(program, kRows);
  long before = 0;
  for (ptrdiff_t t = 0; t < kSteps; ++t) {
    if (t == 1) before = allocations;
    const Value<float> inputs[2] = {input(0, t, 1), input(1, t, 1)};
    const Sequence<float> outputs[2] = {{y[0].data() + t * 5, kSteps * 5, 5}, {y[1].data() + t * 3, kSteps * 3, 3}};
    stream.run(inputs, outputs, nullptr);
  }
  EXPECT_EQ(allocations - before, 0);
  EXPECT_EQ(y[0], whole[0]);
  EXPECT_EQ(y[1], whole[1]);
}

TEST(Graph, RefusesWhatDoesNotFit) {
  const auto dense = std::make_shared<Dense<float>>(cpu_devices(), 3, 3, true);
  const auto add = std::make_shared<Add<float>>(cpu_devices());
  const auto embedding = std::make_shared<Embedding<float>>(cpu_devices(), 5, 3);
  RecurrentOptions options;
  options.cell = "rnn_tanh";
  options.input_size = 3;
  options.hidden_size = 4;
  options.return_sequences = false;
  const auto last = std::make_shared<Recurrent<float>>(cpu_devices(), options);
  const std::vector<GraphSpec<float>> wrong = {
      {{{}}, {{dense, {1}}}, {1}},                               // reads itself
      {{{}}, {{dense, {0, 0}}}, {1}},                            // too many inputs
      {{{}}, {{add, {}}}, {1}},                                  // too few
      {{{}}, {{dense, {0}}}, {0}},                               // an input as output
      {{{}}, {{dense, {0}}}, {1, 1}},                            // an output twice
      {{{}, {}}, {{dense, {0}}}, {2}},                           // an input that nobody reads
      {{{}}, {{dense, {0}}, {embedding, {0}}}, {1}},             // tokens and features
      {{{}}, {{dense, {0}}, {embedding, {1}}}, {2}},             // tokens from a layer
      {{{Axis::kEither, 2}}, {{dense, {0}}}, {1}},               // features
      {{{}}, {{last, {0}}, {last, {0}, {0}}}, {1}},              // a sequence as state, of a wrong size
      {{{}}, {{dense, {0}}, {last, {1}}, {last, {2}}}, {4}},     // features of what ended
      {{{Axis::kVector, 3}}, {{last, {0}}}, {1}},                // needs sequences
      {{{}}, {{dense, {0}}, {last, {1}, {kOwnState, 0}}}, {2}},  // too many states
  };
  for (size_t i = 0; i < wrong.size(); ++i) EXPECT_THROW(Program<float>(wrong[i], "model"), std::invalid_argument) << i;
  const Program<float> fits({{{}, {}}, {{add, {0, 1}}}, {2}}, "model");
  Arena memory;
  std::vector<float> x(30);
  const int64_t lengths[2][2] = {{3, 5}, {3, 4}};
  const auto input = [&](ptrdiff_t steps, ptrdiff_t features, const int64_t* valid) -> Value<float> {
    return {{2, steps, valid, nullptr, 0, 0}, features, false, {{x.data(), steps * features, features}, {}}};
  };
  for (const Value<float>& other : {input(4, 3, nullptr), input(5, 2, nullptr), input(5, 3, lengths[1])}) {
    const Value<float> inputs[2] = {input(5, 3, lengths[0]), other};
    EXPECT_THROW(fits.graph().plan(inputs, memory), std::invalid_argument);
  }
}

TEST(Program, RefusesLayersThatDoNotFit) {
  const std::vector<std::shared_ptr<Layer<float>>> layers = {std::make_shared<Dense<float>>(cpu_devices(), 3, 4, true),
                                                             std::make_shared<Dense<float>>(cpu_devices(), 5, 2, true)};
  EXPECT_THROW(Program<float>(layers, "model"), std::invalid_argument);
  EXPECT_THROW(Program<float>(GraphSpec<float>{}, "model"), std::invalid_argument);
}

}  // namespace
}  // namespace recurra
