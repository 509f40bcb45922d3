// What a tape of a recurrent layer does beyond its one backward: fitting a memory budget, and showing what is on it.
#include <gtest/gtest.h>

#include "fence_values.h"
#include "guarded_block.h"
#include "program/program.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kRows = 3, kSteps = 500;  // several blocks of a backward
constexpr size_t kFacts = 4096;               // more than what a block says about itself

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

  std::shared_ptr<Tape<T>> record(size_t budget, const TapeBlock& block = {}) const {
    return call(budget, [&](const ProgramInput<T>& input, const RecordOptions& options) {
      return program_->record(input, options, block);
    });
  }
  size_t tape_bytes(size_t budget) const {
    return call(budget, [&](const ProgramInput<T>& input, const RecordOptions& options) {
      return program_->tape_bytes(input, options);
    });
  }
  std::shared_ptr<Tape<T>> open(const TapeBlock& block) const { return program_->open(block); }

  template <class F>
  auto call(size_t budget, const F& f) const {
    Value<T> x = {};
    x.batch = {kRows, kSteps, lengths_, reset_.data(), kSteps, 1};
    x.features = kFeatures;
    x.x.features = {x_.data(), kSteps * kFeatures, kFeatures};
    const bool wanted = true;
    RecordOptions options;
    options.input_grad = &wanted;
    options.random.seed = 3;
    options.memory_budget = budget;
    return f(ProgramInput<T>{&x, {}}, options);
  }

  const Devices& devices() const { return devices_; }

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
    expect_bits(fenced.activity(*same), activity);
    const auto gradients = plain.backward(*held, false);
    expect_bits(fenced.backward(*same, false), gradients);
    expect_bits(fenced.backward(*fenced.record(size_t(-1)), true), plain.backward(*plain.record(size_t(-1)), true));

    const size_t least = plain.least_budget();
    EXPECT_EQ(fenced.least_budget(), least);
    for (const size_t budget : {least, (least + held->bytes()) / 2}) {
      const auto small = fenced.record(budget);
      EXPECT_LT(small->bytes(), held->bytes());
      EXPECT_TRUE(fenced.activity(*small).empty());
      expect_bits(fenced.backward(*small, false), gradients);
      for (const Taped<T>* taped : {&plain, &fenced}) {
        GuardedBlock block(taped->devices(), taped->tape_bytes(budget + kFacts));
        taped->record(budget + kFacts, block.block());
        block.seal();
        for (int time = 0; time < 2; ++time)
          expect_bits(taped->backward(*taped->open(block.block()), false), gradients);
        EXPECT_TRUE(block.is_untouched_outside());
      }
    }
  }
}

TEST(FencedTape, FitsABudgetAndShowsItsActivityInFloat) { check_tapes<float>(); }
TEST(FencedTape, FitsABudgetAndShowsItsActivityInDouble) { check_tapes<double>(); }

TEST(TapeBlock, ThatDoesNotFitIsRefused) {
  constexpr size_t kNoBudget = size_t(-1);
  const Taped<float> taped(recurrent("lstm"), cpu_devices()), other(recurrent("gru"), cpu_devices());
  const size_t size = taped.tape_bytes(kNoBudget);
  GuardedBlock block(cpu_devices(), size), copy(cpu_devices(), size);
  const auto refused = [](const auto& f, const std::string& words) {
    try {
      f();
      FAIL() << "expected an error: " << words;
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  };
  for (const size_t less : {size - 64, size / 2, size_t(64), size_t(0)})
    refused(
        [&] {
          taped.record(kNoBudget, {block.block().data + (size - less) / 64 * 64, less, 7, nullptr});
        },
        "expected at least " + std::to_string(size));
  refused(
      [&] {
        taped.record(kNoBudget, {block.block().data + 8, size - 64, 7, nullptr});
      },
      "8 bytes behind a multiple");
  refused([&] { taped.open(block.block()); }, "holds no tape");
  taped.record(kNoBudget, block.block());
  refused([&] { other.open(block.block()); }, "another model");
  refused([&] { taped.open({block.block().data, size, 8, nullptr}); }, "another model");
  for (const size_t less : {size - 1, size_t(40), size_t(0)})
    refused([&] { taped.open({block.block().data, less, 7, nullptr}); }, "got ");
  // A change to any word of what it says about itself is found.
  const size_t words = size_t(reinterpret_cast<const int64_t*>(block.block().data)[2]);
  for (size_t i = 0; i < words; ++i) {
    copy.copy(block);
    reinterpret_cast<int64_t*>(copy.block().data)[i] ^= int64_t(1) << (i * 7 % 64);
    refused([&] { taped.open(copy.block()); }, "holds no tape");
  }
}

}  // namespace
}  // namespace recurra
