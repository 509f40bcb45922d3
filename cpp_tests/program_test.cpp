// Programs and streams: one call for several layers, and steps that allocate nothing.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "layers/dense.h"
#include "layers/dropout.h"
#include "layers/embedding.h"
#include "layers/recurrent.h"
#include "program/stream.h"

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
  std::vector<std::shared_ptr<Layer<float>>> layers = {
      std::make_shared<Embedding<float>>(30, 8), std::make_shared<Recurrent<float>>(options),
      std::make_shared<Dropout<float>>(0.5), std::make_shared<Dense<float>>(20, 30, true)};
  for (const auto& layer : layers) {
    for (ptrdiff_t i = 0; i < layer->parameters()->size(); ++i)
      layer->parameters()->values()[i] = float((i * 37) % 101 - 50) / 100;
    layer->parameters()->touch();
  }
  return std::make_shared<Program<float>>(layers, "model");
}

constexpr ptrdiff_t kRows = 3, kSteps = 12;

std::vector<int64_t> tokens() {
  std::vector<int64_t> x;
  for (int64_t i = 0; i < kRows * kSteps; ++i) x.push_back(i * 7 % 30);
  return x;
}

TEST(Stream, StepsGiveTheSequencesBitsAndAllocateNothing) {
  const auto program = language_model();
  const auto x = tokens();
  const ptrdiff_t size = program->state_size();
  std::vector<float> whole(size_t(kRows * kSteps * 30)), state(size_t(kRows * size)), stepped(whole.size());
  ProgramInput<float> input = {};
  input.batch = {kRows, kSteps, nullptr, nullptr, 0, 0};
  input.x.tokens = {x.data(), kSteps, 1};
  Arena arena;
  program->forward(input, 1, {whole.data(), kSteps * 30, 30}, {state.data(), size}, arena);

  Stream<float> stream(program, kRows);
  long before = 0;
  for (ptrdiff_t t = 0; t < kSteps; ++t) {
    if (t == 1) before = allocations;
    Input<float> step = {};
    step.tokens = {x.data() + t, kSteps, 1};
    stream.run({kRows, 1, nullptr, nullptr, 0, 0}, step, 1, {stepped.data() + t * 30, kSteps * 30, 30}, nullptr);
  }
  EXPECT_EQ(allocations - before, 0);
  EXPECT_EQ(whole, stepped);
  EXPECT_TRUE(std::equal(state.begin(), state.end(), stream.state()));
}

// What the steps of a stream and the chunks between them are compared with: one call over the whole.
struct Streamed {
  std::shared_ptr<Recurrent<float>> layer;
  std::shared_ptr<Program<float>> program;
  ptrdiff_t rows, inputs, outputs;
  std::vector<float> x;
  std::vector<uint8_t> reset;

  Streamed(const char* cell, ptrdiff_t inputs, ptrdiff_t hidden, ptrdiff_t rows, bool return_sequences = true)
      : rows(rows), inputs(inputs), outputs(hidden) {
    RecurrentOptions options;
    options.cell = cell;
    options.input_size = inputs;
    options.hidden_size = hidden;
    options.num_layers = 3;
    options.return_sequences = return_sequences;
    layer = std::make_shared<Recurrent<float>>(options);
    set(1);
    program = std::make_shared<Program<float>>(std::vector<std::shared_ptr<Layer<float>>>{layer}, "layer");
    for (ptrdiff_t i = 0; i < rows * kSteps * inputs; ++i) x.push_back(float((i * 29) % 83 - 41) / 40);
    for (ptrdiff_t i = 0; i < rows * kSteps; ++i) reset.push_back(i % 5 == 3);
  }
  void set(ptrdiff_t seed) {
    for (ptrdiff_t i = 0; i < layer->parameters()->size(); ++i)
      layer->parameters()->values()[i] = float((i * 37 + seed) % 101 - 50) / 150;
    layer->parameters()->touch();
  }
  std::vector<float> output() const { return std::vector<float>(size_t(rows * kSteps * outputs)); }
  void run(Stream<float>& stream, ptrdiff_t begin, ptrdiff_t steps, std::vector<float>& y) const {
    Input<float> input = {};
    input.features = {x.data() + begin * inputs, kSteps * inputs, inputs};
    stream.run({rows, steps, nullptr, reset.data() + begin, kSteps, 1}, input, inputs,
               {y.data() + begin * outputs, kSteps * outputs, outputs}, nullptr);
  }
};

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
  stream.reset(0);
  stream.reset(1);
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
    EXPECT_THROW(stream.reset(0), std::invalid_argument);
    EXPECT_THROW(stream.fork(2), std::invalid_argument);
  }
  s.run(stream, 0, 1, y);
  EXPECT_NE(y[0], 0);
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
  for (ptrdiff_t i = 0; i < 2 * size; ++i) stream.state()[i] = float(i);
  const auto twins = stream.fork(3);
  ASSERT_EQ(twins->rows(), 6);
  for (ptrdiff_t r = 0; r < 6; ++r)
    for (ptrdiff_t k = 0; k < size; ++k) ASSERT_EQ(twins->state()[r * size + k], float(r / 3 * size + k));
  twins->reset(1);
  EXPECT_EQ(twins->state()[size], 0);
  EXPECT_EQ(twins->state()[2 * size + 1], 1);
  EXPECT_EQ(stream.state()[1], 1);
}

TEST(Tape, WorksOnceAndRefusesChangedWeights) {
  const auto program = language_model();
  const auto x = tokens();
  ProgramInput<float> input = {};
  input.batch = {kRows, kSteps, nullptr, nullptr, 0, 0};
  input.x.tokens = {x.data(), kSteps, 1};
  const std::vector<float> dy(size_t(kRows * kSteps * 30), 1.0f);
  std::vector<float> dstate(size_t(kRows * program->state_size()));
  const auto backward = [&](Tape<float>& tape) {
    tape.backward({dy.data(), kSteps * 30, 30}, {}, {}, {dstate.data(), program->state_size()}, nullptr);
  };
  const auto tape = program->record(input, 1, false, false, true, false, 1);
  const auto other = program->record(input, 1, false, false, true, false, 1);
  EXPECT_GT(tape->bytes(), 0u);
  backward(*tape);
  EXPECT_THROW(backward(*tape), std::invalid_argument);
  backward(*other);
  const auto late = program->record(input, 1, false, false, true, false, 1);
  late->close();
  EXPECT_THROW(backward(*late), std::invalid_argument);
}

TEST(Program, RefusesLayersThatDoNotFit) {
  const std::vector<std::shared_ptr<Layer<float>>> layers = {std::make_shared<Dense<float>>(3, 4, true),
                                                             std::make_shared<Dense<float>>(5, 2, true)};
  EXPECT_THROW(Program<float>(layers, "model"), std::invalid_argument);
  EXPECT_THROW(Program<float>({}, "model"), std::invalid_argument);
}

}  // namespace
}  // namespace recurra
