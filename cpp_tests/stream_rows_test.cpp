// Changes of some rows of a stream, whatever the others do.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "child.h"
#include "layers/conv1d.h"
#include "streamed.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kSteps = Streamed::kSteps;

// Rows of one stream, in lists that change, beside a stream for each.
struct Company {
  const Streamed& s;
  Stream<float> shared;
  std::vector<std::unique_ptr<Stream<float>>> alone;
  std::vector<float> y = s.output(), expected = s.output();

  explicit Company(const Streamed& streamed) : s(streamed), shared(s.program, s.rows) {
    for (ptrdiff_t r = 0; r < s.rows; ++r) alone.push_back(std::make_unique<Stream<float>>(s.program, 1));
  }
  // Steps [begin, begin + steps) of the inputs of row i go to the i-th row listed.
  void run(const std::vector<int64_t>& list, ptrdiff_t begin, ptrdiff_t steps) {
    const auto call = [&](Stream<float>& stream, ptrdiff_t row, ptrdiff_t count, float* to, const RowList& rows) {
      const Batch batch = {count, steps, nullptr, s.reset.data() + row * kSteps + begin, kSteps, 1};
      const float* x = s.x.data() + (row * kSteps + begin) * s.inputs;
      const Value<float> input = {batch, s.inputs, false, {{x, kSteps * s.inputs, s.inputs}, {}}};
      const Sequence<float> output = {to + (row * kSteps + begin) * s.outputs, kSteps * s.outputs, s.outputs};
      stream.run(&input, &output, nullptr, rows);
    };
    call(shared, 0, ptrdiff_t(list.size()), y.data(), {list.data(), ptrdiff_t(list.size())});
    for (size_t i = 0; i < list.size(); ++i) call(*alone[size_t(list[i])], ptrdiff_t(i), 1, expected.data(), {});
  }
  void expect_same() const {
    const ptrdiff_t size = s.program->state_size();
    EXPECT_EQ(y, expected);
    for (ptrdiff_t r = 0; r < s.rows; ++r)
      EXPECT_TRUE(std::equal(shared.state() + r * size, shared.state() + (r + 1) * size, alone[size_t(r)]->state()))
          << r;
  }
};

TEST(Stream, RowsInAnyCompanyHaveTheBitsOfAStreamAlone) {
  for (const char* cell : {"rnn_tanh", "lstm", "gru", "gru_reset_before", "min_gru"})
    for (const bool whole : {false, true}) {
      const Streamed s(cell, 5, 21, 6);
      Company company(s);
      if (whole) company.run({0, 1, 2, 3, 4, 5}, 0, 2);
      company.run({4}, 0, 1);
      company.run({1, 5, 0}, 1, 1);
      company.run({}, 1, 1);
      company.run({2, 3, 4}, 2, 3);
      company.run({5, 4, 3, 2, 1, 0}, 5, 1);
      company.run({3, 0}, 6, 1);
      const int64_t from[] = {3, 4, 4}, to[] = {4, 3, 0};
      company.shared.copy(from, to, 3);
      const std::vector<float> three(company.alone[3]->state(), company.alone[3]->state() + s.program->state_size());
      const std::vector<float> four(company.alone[4]->state(), company.alone[4]->state() + s.program->state_size());
      company.alone[4]->load(three.data());
      company.alone[3]->load(four.data());
      company.alone[0]->load(four.data());
      company.run({0, 3, 4, 5}, 7, 2);
      const int64_t reset[] = {5, 1};
      company.shared.reset({reset, 2});
      for (const int64_t row : reset) company.alone[size_t(row)]->reset();
      company.run({1, 2, 5}, 9, 1);
      company.expect_same();
    }
}

TEST(Stream, RefusesRowsThatAreNotThereOrListedTwice) {
  const Streamed s("gru", 5, 21, 4);
  Stream<float> stream(s.program, 4);
  std::vector<float> state(size_t(4 * s.program->state_size()), 1.0f);
  stream.load(state.data());
  const std::vector<std::vector<int64_t>> wrong = {{0, 4}, {-1}, {1, 0, 1}, {2, 2}};
  const int64_t fine[] = {0, 1, 2};
  for (const auto& list : wrong) {
    const RowList rows = {list.data(), ptrdiff_t(list.size())};
    EXPECT_THROW(stream.reset(rows), std::invalid_argument);
    EXPECT_THROW(stream.load(state.data(), rows), std::invalid_argument);
    EXPECT_THROW(stream.copy(fine, rows.rows, rows.count), std::invalid_argument);
  }
  EXPECT_TRUE(std::equal(state.begin(), state.end(), stream.state()));
  const int64_t twice[] = {2, 2, 1};
  EXPECT_EQ(stream.fork(2, {twice, 3})->rows(), 6);
}

TEST(Stream, UndoesTheLastChangeOfSomeRows) {
  const Streamed s("lstm", 5, 21, 6);
  Stream<float> stream(s.program, 6);
  std::vector<float> y = s.output();
  s.run(stream, 0, 3, y);
  const size_t n = size_t(6 * s.program->state_size());
  const std::vector<float> before(stream.state(), stream.state() + n);
  const int64_t rows[] = {4, 1}, other[] = {0, 5};
  const auto undone = [&](const auto& change) {
    const uint64_t moves = stream.moves();
    change();
    EXPECT_FALSE(std::equal(before.begin(), before.end(), stream.state()));
    stream.undo(moves);
    EXPECT_TRUE(std::equal(before.begin(), before.end(), stream.state()));
    stream.undo(moves);  // once
    EXPECT_TRUE(std::equal(before.begin(), before.end(), stream.state()));
  };
  undone([&] { stream.reset({rows, 2}); });
  undone([&] { stream.reset(); });
  undone([&] { stream.copy(other, rows, 2); });
  undone([&] { stream.load(before.data() + 1, {rows, 2}); });
}

// A thread sets the state of the same rows to one number after another, in a program whose states are large, while its
// process forks. The children find them all of one number.
TEST(Stream, AForkWhileRowsAreWrittenLeavesThemWhole) {
  constexpr ptrdiff_t kRows = 64;
  Conv1dOptions options;
  options.in_channels = 64;
  options.out_channels = 1;
  options.kernel_size = 33;
  options.padding = "causal";
  const auto layer = std::make_shared<Conv1d<float>>(cpu_devices(), options);
  const auto program = std::make_shared<Program<float>>(std::vector<std::shared_ptr<Layer<float>>>{layer}, "conv");
  const size_t size = size_t(program->state_size());
  Stream<float> stream(program, kRows);
  std::vector<int64_t> rows;
  for (int64_t r = kRows - 1; r > 0; r -= 2) rows.push_back(r);
  const RowList list = {rows.data(), ptrdiff_t(rows.size())};
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    std::vector<float> state(rows.size() * size);
    for (int number = 1; !stop; ++number) {
      std::fill(state.begin(), state.end(), float(number));
      stream.load(state.data(), list);
    }
  });
  for (int i = 0; i < 40; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(137 * i));
    const int answer = answer_of_child([&] {
      const Stream<float>::Use use(stream);
      const float *const found = stream.state(), number = found[size_t(rows[0]) * size];
      bool whole = std::all_of(found, found + size, [](float value) { return value == 0; });  // row 0 is not listed
      for (const int64_t row : rows) {
        const float* const first = found + size_t(row) * size;
        whole = whole && std::all_of(first, first + size, [&](float value) { return value == number; });
      }
      return whole ? 0 : 1;
    });
    EXPECT_EQ(answer, 0) << i;
  }
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace recurra
