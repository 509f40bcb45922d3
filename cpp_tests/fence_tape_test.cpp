// What a tape of a recurrent layer does beyond its one backward: fitting a memory budget, and showing what is on it.
#include <gtest/gtest.h>

#include <cstring>

#include "fence_values.h"
#include "program/program.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kRows = 3, kSteps = 500;  // several blocks of a backward

template <class T>
class Taped {
 public:
  Taped(const RecurrentOptions& options, const Devices& devices)
      : devices_(devices),
        layer_(std::make_shared<Recurrent<T>>(devices, options)),
        program_(std::make_shared<Program<T>>(std::vector<std::shared_ptr<Layer<T>>>{layer_}, "Taped")),
        x_(numbers<T>(size_t(kRows * kSteps * kFeatures), 2)) {
    set_parameters(*layer_);
    for (ptrdiff_t i = 0; i < kRows * kSteps; ++i) reset_.push_back(i % 11 == 3);
  }

  std::shared_ptr<Tape<T>> record(size_t budget) const {
    Value<T> x = {};
    x.batch = {kRows, kSteps, lengths_, reset_.data(), kSteps, 1};
    x.features = kFeatures;
    x.x.features = {x_.data(), kSteps * kFeatures, kFeatures};
    const bool wanted = true;
    RecordOptions options;
    options.input_grad = &wanted;
    options.random.seed = 3;
    options.memory_budget = budget;
    return program_->record({&x, {}}, options);
  }

  // The least budget that a tape fits into.
  size_t least_budget() const {
    size_t too_small = 0, fits = 4 * record(size_t(-1))->bytes();
    while (fits - too_small > 1) {
      const size_t budget = (too_small + fits) / 2;
      try {
        record(budget);
        fits = budget;
      } catch (const std::invalid_argument&) {
        too_small = budget;
      }
    }
    return fits;
  }

  // dx, the parameters' gradient, and the norms of that of h where they are wanted.
  std::vector<std::vector<T>> backward(Tape<T>& tape, bool norms) const {
    if (norms) tape.keep_gradient_norms();
    const Value<T>& y = tape.output(0);
    const std::vector<T> dy = numbers<T>(size_t(kRows * y.batch.steps * y.features), 4);
    const Sequence<const T> dy_rows = {dy.data(), y.batch.steps * y.features, y.features};
    std::vector<T> dx(x_.size()), dstate(size_t(kRows * program_->state_size()));
    const Sequence<T> dx_rows = {dx.data(), kSteps * kFeatures, kFeatures};
    tape.backward(&dy_rows, {}, &dx_rows, {dstate.data(), program_->state_size()}, nullptr);
    std::vector<std::vector<T>> seen = {dx, dstate};
    Parameters<T>& parameters = *layer_->parameters();
    {
      const HostAccess access(devices_);
      seen.emplace_back(parameters.grads(), parameters.grads() + parameters.size());
    }
    parameters.gradient().zero();
    for (const std::vector<double>& one : tape.gradient_norms()) seen.emplace_back(one.begin(), one.end());
    return seen;
  }

  // h, the cell's saved values and c of every layer and direction; nothing if the tape does not hold all steps.
  std::vector<std::vector<T>> activity(const Tape<T>& tape) const {
    const RecurrentPart<T> part = tape.recurrent(0);
    const CellInfo& cell = devices_.of<T>().cell(part.spec->cell);
    std::vector<std::vector<T>> seen;
    const auto room = [&](ptrdiff_t size) {
      seen.emplace_back(size_t(kRows * kSteps * size));
      return Sequence<T>{seen.back().data(), kSteps * size, size};
    };
    for (ptrdiff_t i = 0; i < part.spec->layers * part.spec->directions; ++i) {
      RecurrentActivity<T> to = {room(part.spec->state_size()), room(cell.saved * part.spec->hidden_size), {}, nullptr};
      if (cell.has_cell) to.c = room(part.spec->hidden_size);
      if (!devices_.of<T>().read_tape(*part.spec, *part.tape, size_t(i), to)) return {};
    }
    return seen;
  }

 private:
  const Devices& devices_;
  std::shared_ptr<Recurrent<T>> layer_;
  std::shared_ptr<Program<T>> program_;
  std::vector<T> x_;
  std::vector<uint8_t> reset_;
  const int64_t lengths_[kRows] = {kSteps, 0, kSteps - 90};
};

template <class T>
void expect_same(const std::vector<std::vector<T>>& got, const std::vector<std::vector<T>>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].size(), expected[i].size());
    EXPECT_EQ(std::memcmp(got[i].data(), expected[i].data(), got[i].size() * sizeof(T)), 0) << i;
  }
}

std::vector<RecurrentOptions> all_options() {
  std::vector<RecurrentOptions> all;
  for (int kind = 0; kind < kCellKinds; ++kind) all.push_back(recurrent(cpu_devices().f32.cell(CellKind(kind)).name));
  RecurrentOptions deep = recurrent("lstm");
  deep.num_layers = 2;
  deep.bidirectional = true;
  deep.dropout = deep.input_dropout = 0.2;
  all.push_back(deep);
  all.push_back(optional_lstm());
  RecurrentOptions last = recurrent("gru");
  last.candidate_activation = {"softsign"};
  last.return_sequences = false;
  all.push_back(last);
  return all;
}

template <class T>
void check_tapes() {
  for (const RecurrentOptions& options : all_options()) {
    begin_fence_case(options.cell.c_str());
    const Taped<T> plain(options, cpu_devices()), fenced(options, fenced_devices());
    const auto held = plain.record(size_t(-1)), same = fenced.record(size_t(-1));
    const auto activity = plain.activity(*held);
    EXPECT_FALSE(activity.empty());
    expect_same(fenced.activity(*same), activity);
    const auto gradients = plain.backward(*held, false);
    expect_same(fenced.backward(*same, false), gradients);
    expect_same(fenced.backward(*fenced.record(size_t(-1)), true), plain.backward(*plain.record(size_t(-1)), true));

    const size_t least = plain.least_budget();
    EXPECT_EQ(fenced.least_budget(), least);
    for (const size_t budget : {least, (least + held->bytes()) / 2}) {
      const auto small = fenced.record(budget);
      EXPECT_LT(small->bytes(), held->bytes());
      EXPECT_TRUE(fenced.activity(*small).empty());
      expect_same(fenced.backward(*small, false), gradients);
    }
  }
}

TEST(FencedTape, FitsABudgetAndShowsItsActivityInFloat) { check_tapes<float>(); }
TEST(FencedTape, FitsABudgetAndShowsItsActivityInDouble) { check_tapes<double>(); }

}  // namespace
}  // namespace recurra
