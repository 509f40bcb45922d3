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
}
// Every allocation is counted; but sanitizers bring an operator new of their own, so only the other builds count.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void* operator new(size_t size) {
  ++allocations;
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
void* operator new(size_t size, std::align_val_t align) {
  ++allocations;
  const size_t a = size_t(align);
  if (void* p = std::aligned_alloc(a, (size + a - 1) / a * a)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
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
