// Storage formats of packed weights: a stack whose weights are in a format gives the bits of one whose weights were
// rounded to that format before, on the plain device and on the fenced one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "cpu/isa.h"
#include "fence_values.h"
#include "platform/tasks.h"

namespace recurra {
namespace {

const bool reports = (report_fence_faults(), true);

// Half precision: 11 bits, of which the last is at 2^-24 or above; to even where two are equally near.
double half(double x) {
  if (x == 0 || !std::isfinite(x)) return x;
  int exponent;
  std::frexp(x, &exponent);
  const int last = std::max(exponent - 11, -24);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(x, -last)), last);
  return std::fabs(rounded) > 65504 ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}

// A format, and what a number becomes in it.
struct Format {
  const char* name;
  double (*rounded)(double);
};
const Format kFormats[] = {{"f16", half}};

template <class T>
class Stored : public testing::Test {};
typedef testing::Types<float, double> Types;
TYPED_TEST_SUITE(Stored, Types);

// All magnitudes; a quarter of those with few bits lie in the middle between two halves.
template <class T>
std::vector<T> many_numbers() {
  std::mt19937 generator(3);
  std::vector<T> x = {T(0),
                      T(65504),
                      T(65519.9),
                      T(65520),
                      T(-65520),
                      std::numeric_limits<T>::max(),
                      T(1e-30),
                      T(-1e-8),
                      T(0x1p-25),
                      T(0x1p-24),
                      std::numeric_limits<T>::infinity(),
                      std::numeric_limits<T>::quiet_NaN()};
  while (x.size() < 1 << 16) {
    const int exponent = int(generator() % 60) - 40;
    const double few = double(generator() % 8192), many = few + double(generator()) / 4294967296.0;
    for (double size : {few, many}) x.push_back(T(std::ldexp(generator() % 2 ? size : -size, exponent - 13)));
  }
  x.resize(1 << 16);
  return x;
}

// One row of weights, read by a product with 1.
TYPED_TEST(Stored, NumbersAreRoundedToTheNearestOfTheFormat) {
  typedef TypeParam T;
  const std::vector<T> x = many_numbers<T>();
  const ptrdiff_t n = ptrdiff_t(x.size());
  for (const Format& format : kFormats) {
    const Storage<T>& storage = *kernels<T>().storages[cpu_device<T>().storage(format.name)];
    std::vector<char> packed(x.size() * size_t(storage.bytes));
    storage.narrow(x.data(), packed.data(), n);
    const T one = 1;
    std::vector<T> y(x.size());
    kernels<T>().product({1, 1, n, &one, 1, packed.data(), nullptr, y.data(), n, &storage});
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i]))
        ASSERT_TRUE(std::isnan(y[i]));
      else
        ASSERT_EQ(double(y[i]), format.rounded(double(x[i]))) << format.name << " of " << x[i];
    }
  }
}

// A stack with its weights, and the same rounded to a format.
template <class T>
class Stack {
 public:
  Stack(const Devices& devices, const RecurrentOptions& options, const Format& format)
      : devices_(devices),
        device_(devices.of<T>()),
        layer_(devices, options),
        spec_(recurrent_spec(devices, options)),
        offsets_(recurrent_offsets(devices, spec_, *layer_.parameters())),
        rounded_(device_.pack({&spec_, &offsets_, values(&format).data(), false, 1}, Arena(devices.memory))),
        stored_(device_.pack({&spec_, &offsets_, values(nullptr).data(), false, 3, device_.storage(format.name)},
                             Arena(devices.memory))),
        plain_(device_.pack({&spec_, &offsets_, values(nullptr).data(), false, 1}, Arena(devices.memory))) {}

  const RecurrentWeights<T>& rounded() const { return *rounded_; }
  const RecurrentWeights<T>& stored() const { return *stored_; }
  const RecurrentWeights<T>& plain() const { return *plain_; }

  // y and the final state of a ragged batch with resets, recorded or not.
  std::vector<T> forward(const RecurrentWeights<T>& weights, ptrdiff_t rows, int threads, bool records) const {
    constexpr ptrdiff_t kSteps = 11;
    std::vector<int64_t> lengths;
    std::vector<uint8_t> reset;
    for (ptrdiff_t r = 0; r < rows; ++r) lengths.push_back(r == 1 ? 0 : kSteps - r * 3 % 7);
    for (ptrdiff_t i = 0; i < rows * kSteps; ++i) reset.push_back(i % 6 == 4);
    const Batch batch = {rows, kSteps, lengths.data(), reset.data(), kSteps, 1};
    Arena arena(devices_.memory), host;
    Memory kept(devices_);
    const Run run = {devices_, arena, host, threads, nullptr, records, 5};
    const ptrdiff_t inputs = spec_.input_size, outputs = layer_.output_size(), state = layer_.state_size();
    const std::vector<T> x = numbers<T>(size_t(rows * kSteps * inputs), 2), begin = numbers<T>(size_t(rows * state), 3);
    std::vector<T> y(size_t(rows * kSteps * outputs)), end(begin.size());
    const RecurrentForward<T> call = {&spec_,
                                      &weights,
                                      &batch,
                                      {x.data(), kSteps * inputs, inputs},
                                      {y.data(), kSteps * outputs, outputs},
                                      {begin.data(), state},
                                      {end.data(), state}};
    if (records)
      device_.record(run, call, *device_.take_tape(call, true, kept));
    else
      device_.forward(run, call);
    y.insert(y.end(), end.begin(), end.end());
    return y;
  }

  // The outputs of prepared single steps, and the state after them.
  std::vector<T> steps(const RecurrentWeights<T>& weights, ptrdiff_t rows) const {
    const ptrdiff_t inputs = spec_.input_size, outputs = layer_.output_size(), state = layer_.state_size();
    std::vector<T> states[2] = {numbers<T>(size_t(rows * state), 3), std::vector<T>(size_t(rows * state))};
    const auto step = device_.prepare_step(spec_, rows);
    std::vector<T> y(size_t(4 * rows * outputs));
    for (int t = 0; t < 4; ++t) {
      const std::vector<T> x = numbers<T>(size_t(rows * inputs), 4 + t);
      std::vector<T>&before = states[t % 2], &after = states[1 - t % 2];
      step->run(weights, {rows,
                          x.data(),
                          inputs,
                          y.data() + t * rows * outputs,
                          outputs,
                          nullptr,
                          0,
                          {before.data(), state},
                          {after.data(), state}});
    }
    y.insert(y.end(), states[0].begin(), states[0].end());
    return y;
  }

 private:
  // The parameters, their matrices rounded where a format is given.
  std::vector<T> values(const Format* format) const {
    std::mt19937 generator(1);
    std::normal_distribution<double> normal(0, 0.7 / std::sqrt(double(spec_.hidden_size)));
    std::vector<T> made(size_t(layer_.parameters()->size()));
    for (T& value : made) value = T(normal(generator));
    for (const auto& entry : layer_.parameters()->entries())
      for (const char* matrix : {"weight_ih", "weight_hh", "weight_hr"})
        for (ptrdiff_t i = entry.begin; format && entry.name.rfind(matrix, 0) == 0 && i < entry.end; ++i)
          made[size_t(i)] = T(format->rounded(double(made[size_t(i)])));
    return made;
  }

  const Devices& devices_;
  const Device<T>& device_;
  const Recurrent<T> layer_;
  const RecurrentSpec spec_;
  const std::vector<RecurrentOffsets> offsets_;
  const std::unique_ptr<RecurrentWeights<T>> rounded_, stored_, plain_;
};

struct Case {
  std::string name;
  RecurrentOptions options;
};

RecurrentOptions sized(const std::string& cell, ptrdiff_t inputs, ptrdiff_t hidden) {
  RecurrentOptions options = recurrent(cell);
  options.input_size = inputs;
  options.hidden_size = hidden;
  return options;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, RecurrentOptions options, const auto& change) {
    change(options);
    cases.push_back({name, options});
  };
  for (int kind = 0; kind < kCellKinds; ++kind) {
    const CellInfo& info = cpu_devices().f32.cell(CellKind(kind));
    const std::string cell = info.name;
    cases.push_back({cell, sized(cell, 3, 5)});
    cases.push_back({cell + " wide", sized(cell, 20, 67)});  // its input ahead of a row, in panels of half a vector
    add(cell + " deep", sized(cell, 4, 24), [](RecurrentOptions& o) { o.num_layers = 2, o.bidirectional = true; });
    add(cell + " without bias", sized(cell, 9, 16), [](RecurrentOptions& o) { o.bias = false; });
    if (!info.stages) continue;
    add(cell + " activation", recurrent(cell), [](RecurrentOptions& o) { o.candidate_activation.name = "softsign"; });
    add(cell + " masked", recurrent(cell), [](RecurrentOptions& o) { o.recurrent_dropout = 0.3, o.zoneout = 0.2; });
    if (info.stages == 1) add(cell + " norm", recurrent(cell), [](RecurrentOptions& o) { o.layer_norm = true; });
  }
  cases.push_back({"lstm of contiguous panels", sized("lstm", 12, 260)});
  cases.push_back({"lstm options", optional_lstm()});
  add("lstm projection", sized("lstm", 9, 40), [](RecurrentOptions& o) { o.proj_size = 21, o.num_layers = 2; });
  add("lstm peepholes", recurrent("lstm"), [](RecurrentOptions& o) { o.peepholes = true, o.cell_clip = 1; });
  return cases;
}

template <class T>
void expect_the_bits_of_rounded_weights(const Devices& devices, const Case& c, const Format& format) {
  SCOPED_TRACE(c.name);
  begin_fence_case(c.name.c_str());
  const Stack<T> stack(devices, c.options, format);
  const auto expect_same = [](const std::vector<T>& got, const std::vector<T>& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    ASSERT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(T)), 0);
  };
  for (ptrdiff_t rows : {1, 2, 13}) {
    for (int threads : {1, 3})
      for (bool records : {false, true})
        expect_same(stack.forward(stack.stored(), rows, threads, records),
                    stack.forward(stack.rounded(), rows, threads, records));
    expect_same(stack.steps(stack.stored(), rows), stack.steps(stack.rounded(), rows));
    EXPECT_NE(stack.steps(stack.stored(), rows), stack.steps(stack.plain(), rows)) << "nothing was rounded";
  }
}

// With threads that share even the smallest calls.
template <class T>
void expect_the_bits_of_rounded_weights(const Devices& devices) {
  const int threads = num_threads();
  set_num_threads(3);
  set_eager(true);
  for (const Format& format : kFormats)
    for (const Case& c : all_cases()) expect_the_bits_of_rounded_weights<T>(devices, c, format);
  set_eager(false);
  set_num_threads(threads);
}

TYPED_TEST(Stored, AStackHasTheBitsOfRoundedWeights) { expect_the_bits_of_rounded_weights<TypeParam>(cpu_devices()); }
TYPED_TEST(Stored, AStackOnTheFencedDeviceHasThem) { expect_the_bits_of_rounded_weights<TypeParam>(fenced_devices()); }

TYPED_TEST(Stored, FormatsThatAreNotThereAreNamed) {
  typedef TypeParam T;
  const Device<T>& device = cpu_device<T>();
  EXPECT_EQ(device.storage(sizeof(T) == 4 ? "f32" : "f64"), kOwnStorage);
  try {
    device.storage("f12");
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find(sizeof(T) == 4 ? "got 'f12'" : "f64, f16"), std::string::npos);
  }
  const RecurrentSpec spec = recurrent_spec(cpu_devices(), recurrent("gru"));
  const Recurrent<T> layer(cpu_devices(), recurrent("gru"));
  const auto offsets = recurrent_offsets(cpu_devices(), spec, *layer.parameters());
  EXPECT_THROW(device.pack({&spec, &offsets, layer.parameters()->values(), true, 1, device.storage("f16")}, Arena()),
               std::invalid_argument);
}

}  // namespace
}  // namespace recurra
