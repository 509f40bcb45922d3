// The loops around the cells, against a plain loop over the same equations with V = double; and what must not change
// bits.
#include "layers/recurrent.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "cpu/isa.h"
#include "program/stream.h"

#define RECURRA_ISA scalar
#include "kernels/cells/gru.h"
#include "kernels/cells/lstm.h"
#include "kernels/cells/rnn.h"

namespace recurra {
namespace {

std::vector<double> random_values(size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> x(n);
  for (double& v : x) v = normal(generator);
  return x;
}

struct Case {
  const char* cell;
  ptrdiff_t inputs, hidden, layers;
  bool bidirectional;
};

template <class T>
struct Model {
  std::shared_ptr<Recurrent<T>> layer;
  std::shared_ptr<Program<T>> program;
  std::vector<double> weights;

  explicit Model(const Case& c) {
    RecurrentOptions options;
    options.cell = c.cell;
    options.input_size = c.inputs;
    options.hidden_size = c.hidden;
    options.num_layers = c.layers;
    options.bidirectional = c.bidirectional;
    layer = std::make_shared<Recurrent<T>>(cpu_devices(), options);
    program = std::make_shared<Program<T>>(std::vector<std::shared_ptr<Layer<T>>>{layer}, "test");
    weights = random_values(size_t(layer->parameters()->size()), 1);
    for (double& w : weights) w *= 0.7 / std::sqrt(double(c.hidden));
    set();
  }
  void set() {
    for (size_t i = 0; i < weights.size(); ++i) layer->parameters()->values()[i] = T(weights[i]);
    layer->parameters()->touch();
  }
};

// A batch of caller's rows, with everything a call can have.
template <class T>
struct Data {
  ptrdiff_t rows, steps, inputs, outputs, state_size;
  std::vector<int64_t> lengths;
  std::vector<uint8_t> reset;
  std::vector<T> x, state, dy, dstate;

  Data(const Model<T>& model, ptrdiff_t rows, ptrdiff_t steps)
      : rows(rows),
        steps(steps),
        inputs(model.layer->input_size()),
        outputs(model.layer->output_size()),
        state_size(model.program->state_size()) {
    std::mt19937 generator(7);
    for (ptrdiff_t r = 0; r < rows; ++r) lengths.push_back(r == 0 ? steps : int64_t(generator() % unsigned(steps + 1)));
    for (ptrdiff_t i = 0; i < rows * steps; ++i) reset.push_back(generator() % 4 == 0);
    const auto fill = [](std::vector<T>& to, ptrdiff_t n, unsigned seed) {
      for (double v : random_values(size_t(n), seed)) to.push_back(T(v));
    };
    fill(x, rows * steps * inputs, 2);
    fill(state, rows * state_size, 3);
    fill(dy, rows * steps * outputs, 4);
    fill(dstate, rows * state_size, 5);
  }
  Batch batch(ptrdiff_t first, ptrdiff_t count) const {
    return {count, steps, lengths.data() + first, reset.data() + first * steps, steps, 1};
  }
  Value<T> value(ptrdiff_t first, ptrdiff_t count) const {
    return {batch(first, count), inputs, false, {{x.data() + first * steps * inputs, steps * inputs, inputs}, {}}};
  }
  StateRows<const T> state_rows(ptrdiff_t first) const { return {state.data() + first * state_size, state_size}; }
};

template <class T>
struct Result {
  std::vector<T> y, state, dx, dstate, gradient;
};

template <class T>
Result<T> run(Model<T>& model, const Data<T>& data, ptrdiff_t first, ptrdiff_t count) {
  Result<T> r;
  auto& parameters = *model.layer->parameters();
  std::fill_n(parameters.grads(), parameters.size(), T(0));
  const Value<T> x = data.value(first, count);
  const bool wanted = true;
  RecordOptions options;
  options.input_grad = &wanted;
  auto tape = model.program->record({&x, data.state_rows(first)}, options);
  const ptrdiff_t row = data.steps * data.outputs;
  const T* const y = tape->output(0).x.features.data;
  r.y.assign(y, y + count * row);
  r.state.assign(tape->final_state(), tape->final_state() + count * data.state_size);
  r.dx.resize(size_t(count * data.steps * data.inputs));
  r.dstate.resize(size_t(count * data.state_size));
  const Sequence<const T> dy = {data.dy.data() + first * row, row, data.outputs};
  const Sequence<T> dx = {r.dx.data(), data.steps * data.inputs, data.inputs};
  tape->backward(&dy, {data.dstate.data() + first * data.state_size, data.state_size}, &dx,
                 {r.dstate.data(), data.state_size}, nullptr);
  r.gradient.assign(parameters.grads(), parameters.grads() + parameters.size());
  return r;
}

// A plain loop: one row, one layer, one direction, one unit after the other.
template <class Cell>
void reference_layer(const Model<double>& model, const Data<double>& data, ptrdiff_t row, std::vector<double>& y) {
  constexpr CellInfo cell = Cell::kInfo;
  const auto& entries = model.layer->parameters()->entries();
  const double* values = model.layer->parameters()->values();
  const double *w_ih = values + entries[0].begin, *w_hh = values + entries[1].begin;
  const double *b_ih = values + entries[2].begin, *b_hh = values + entries[3].begin;
  const ptrdiff_t H = data.outputs, I = data.inputs;
  std::vector<double> h(data.state.begin() + row * data.state_size, data.state.begin() + row * data.state_size + H);
  std::vector<double> c(size_t(H), 0.0);
  if (cell.has_cell) std::copy_n(data.state.begin() + row * data.state_size + H, H, c.begin());
  for (ptrdiff_t t = 0; t < data.lengths[size_t(row)]; ++t) {
    if (data.reset[size_t(row * data.steps + t)]) {
      std::fill(h.begin(), h.end(), 0.0);
      std::fill(c.begin(), c.end(), 0.0);
    }
    const double* x = data.x.data() + (row * data.steps + t) * I;
    std::vector<scalar::Unit<double>> units(static_cast<size_t>(H));
    const auto product = [&](int g, ptrdiff_t u, const double* operand) {
      const ptrdiff_t gate = cell.recurrent_gate[g] * H + u;
      double sum = 0;
      for (ptrdiff_t k = 0; k < H; ++k) sum += w_hh[gate * H + k] * operand[k];
      return sum;
    };
    std::vector<double> operand(static_cast<size_t>(H)), next(static_cast<size_t>(H));
    for (ptrdiff_t u = 0; u < H; ++u) {
      auto& unit = units[size_t(u)];
      for (int g = 0; g < cell.groups; ++g) {
        unit.pre[g] = 0;
        if (cell.input_gate[g] >= 0) {
          const ptrdiff_t gate = cell.input_gate[g] * H + u;
          unit.pre[g] += b_ih[gate];
          for (ptrdiff_t k = 0; k < I; ++k) unit.pre[g] += w_ih[gate * I + k] * x[k];
        }
        if (cell.recurrent_gate[g] >= 0) unit.pre[g] += b_hh[cell.recurrent_gate[g] * H + u];
        const Range range = cell.recurrent[0];
        if (g >= range.begin && g < range.begin + range.count) unit.pre[g] += product(g, u, h.data());
      }
      unit.h = h[size_t(u)];
      unit.c = c[size_t(u)];
      Cell::template forward<0>(unit);
      operand[size_t(u)] = unit.operand;
    }
    for (ptrdiff_t u = 0; u < H; ++u) {
      auto& unit = units[size_t(u)];
      if constexpr (cell.stages > 1) {
        unit.h = h[size_t(u)];
        unit.pre[0] += product(0, u, operand.data());
        Cell::template forward<1>(unit);
      }
      next[size_t(u)] = unit.h;
      c[size_t(u)] = unit.c;
    }
    h = next;
    std::copy(h.begin(), h.end(), y.begin() + (row * data.steps + t) * H);
  }
}

template <class Cell>
void compare_with_reference() {
  for (ptrdiff_t hidden : {1, 5, 17, 24, 45})
    for (ptrdiff_t rows : {1, 9}) {
      Model<double> model({Cell::kInfo.name, 3, hidden, 1, false});
      const Data<double> data(model, rows, 11);
      const auto result = run(model, data, 0, rows);
      std::vector<double> expected(result.y.size(), 0.0);
      for (ptrdiff_t r = 0; r < rows; ++r) reference_layer<Cell>(model, data, r, expected);
      for (size_t i = 0; i < expected.size(); ++i)
        ASSERT_NEAR(result.y[i], expected[i], 1e-12) << "H = " << hidden << " at " << i;
    }
}

TEST(Recurrent, TheLoopsAgreeWithThePlainEquations) {
  compare_with_reference<scalar::Rnn<scalar::RnnTanh>>();
  compare_with_reference<scalar::Rnn<scalar::RnnRelu>>();
  compare_with_reference<scalar::Rnn<scalar::RnnSigmoid>>();
  compare_with_reference<scalar::Lstm>();
  compare_with_reference<scalar::Gru>();
  compare_with_reference<scalar::GruResetBefore>();
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (int i = 0; i < kCellKinds; ++i) {
    const char* name = kernels<float>().cells[i]->info->name;
    cases.push_back({name, 3, 5, 2, true});
    cases.push_back({name, 1, 24, 1, false});
    cases.push_back({name, 20, 67, 1, true});
  }
  return cases;
}

TEST(Recurrent, GradientsAreTheLossesDifferences) {
  for (const Case& c : all_cases()) {
    if (c.hidden > 24 || std::string(c.cell) == "rnn_relu") continue;  // relu has a kink that differences may straddle
    Model<double> model(c);
    Data<double> data(model, 4, 6);
    const auto result = run(model, data, 0, 4);
    const int threads = num_threads();
    set_num_threads(1);  // so that thousands of small calls wait for nobody
    const auto loss = [&] {
      const auto r = run(model, data, 0, 4);
      double sum = 0;
      for (size_t i = 0; i < r.y.size(); ++i) sum += r.y[i] * data.dy[i];
      for (size_t i = 0; i < r.state.size(); ++i) sum += r.state[i] * data.dstate[i];
      return sum;
    };
    const auto compare = [&](double& value, double analytic, const char* what) {
      const double kept = value, h = 1e-5;
      value = kept + h;
      model.set();
      const double up = loss();
      value = kept - h;
      model.set();
      const double down = loss();
      value = kept;
      model.set();
      ASSERT_NEAR(analytic, (up - down) / (2 * h), 1e-6 * std::max(1.0, std::fabs(analytic))) << c.cell << ", " << what;
    };
    for (size_t i = 0; i < model.weights.size(); i += 1 + model.weights.size() / 60)
      compare(model.weights[i], result.gradient[i], "weights");
    for (size_t i = 0; i < data.state.size(); i += 7) compare(data.state[i], result.dstate[i], "state");
    for (size_t i = 0; i < data.x.size(); i += 5) compare(data.x[i], result.dx[i], "x");
    set_num_threads(threads);
  }
}

TEST(Recurrent, ARowsBitsDependOnNoOtherRow) {
  for (const Case& c : all_cases()) {
    Model<float> model(c);
    const Data<float> data(model, 13, 9);
    const auto whole = run(model, data, 0, 13);
    const auto part = [](const std::vector<float>& all, ptrdiff_t row, size_t n) {
      return std::vector<float>(all.begin() + row * ptrdiff_t(n), all.begin() + (row + 1) * ptrdiff_t(n));
    };
    for (ptrdiff_t r = 0; r < 13; ++r) {
      const auto alone = run(model, data, r, 1);
      ASSERT_EQ(alone.y, part(whole.y, r, alone.y.size())) << c.cell;
      ASSERT_EQ(alone.state, part(whole.state, r, alone.state.size())) << c.cell;
      ASSERT_EQ(alone.dx, part(whole.dx, r, alone.dx.size())) << c.cell;
      ASSERT_EQ(alone.dstate, part(whole.dstate, r, alone.dstate.size())) << c.cell;
    }
  }
}

// Runs the first `rows` rows on one thread and on several; the bits must be the same.
void expect_threads_change_no_bit(const Case& c, ptrdiff_t rows, ptrdiff_t steps) {
  const int before = num_threads();
  Model<float> model(c);
  const Data<float> data(model, rows, steps);
  set_num_threads(1);
  const auto one = run(model, data, 0, rows);
  for (int threads : {2, 3, 5}) {
    set_num_threads(threads);
    const auto many = run(model, data, 0, rows);
    ASSERT_EQ(one.y, many.y) << c.cell;
    ASSERT_EQ(one.state, many.state) << c.cell;
    ASSERT_EQ(one.dx, many.dx) << c.cell;
    ASSERT_EQ(one.dstate, many.dstate) << c.cell;
    ASSERT_EQ(one.gradient, many.gradient) << c.cell;
  }
  set_num_threads(before);
}

// Both with enough work for threads to be used.
TEST(Recurrent, ThreadsChangeNoBit) {
  for (const Case& c : {Case{"lstm", 32, 64, 2, false}, Case{"gru", 32, 70, 1, true},
                        Case{"gru_reset_before", 8, 64, 1, false}, Case{"rnn_tanh", 32, 130, 1, false}})
    expect_threads_change_no_bit(c, 40, 30);
}

TEST(Recurrent, ThreadsThatShareARowChangeNoBit) {
  for (const Case& c : {Case{"lstm", 64, 130, 2, false}, Case{"lstm", 9, 136, 1, false}, Case{"gru", 64, 130, 1, true},
                        Case{"gru_reset_before", 64, 128, 1, false}, Case{"rnn_tanh", 200, 250, 1, false}})
    for (ptrdiff_t rows : {1, 3}) expect_threads_change_no_bit(c, rows, 90);
}

TEST(Recurrent, ATeamStopsTogether) {
  const int before = num_threads();
  set_num_threads(3);
  Model<float> model({"lstm", 64, 512, 1, false});
  const Data<float> data(model, 1, 6000);  // some tenths of a second, and a Stop is asked after 50 ms
  Stop stop([](void*) { return true; }, nullptr);
  const Value<float> x = data.value(0, 1);
  EXPECT_THROW(model.program->record({&x, data.state_rows(0), &stop}, {}), Interrupted);
  set_num_threads(before);
}

// Where a member is late, the first one ends the call alone: a stop function that takes its time makes it so.
TEST(Recurrent, ATeamThatPartsChangesNoBit) {
  const int before = num_threads();
  for (const Case& c :
       {Case{"lstm", 64, 250, 1, false}, Case{"gru", 5, 256, 1, false}, Case{"gru_reset_before", 64, 256, 1, false}}) {
    Model<float> model(c);
    const Data<float> data(model, 1, 1000);  // long enough for the Stop to be polled
    const Value<float> x = data.value(0, 1);
    int parted = 0;
    const auto outputs = [&](int threads) {
      set_num_threads(threads);
      Stop stop(
          [](void*) {
            set_patient(false);  // now that all have come
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            return false;
          },
          nullptr);
      std::this_thread::sleep_for(std::chrono::milliseconds(60));  // then it is asked as soon as it is polled
      auto tape = model.program->record({&x, data.state_rows(0), &stop}, {});
      parted += stays_alone();
      set_patient(true);
      const float* const y = tape->output(0).x.features.data;
      std::vector<float> all(y, y + data.steps * data.outputs);
      all.insert(all.end(), tape->final_state(), tape->final_state() + data.state_size);
      return all;
    };
    const auto one = outputs(1);
    for (int threads : {2, 3, 5}) ASSERT_EQ(one, outputs(threads)) << c.cell << ", " << threads;
    EXPECT_GE(parted, 1) << c.cell;  // a busy machine may be back from its pause by then
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace recurra
