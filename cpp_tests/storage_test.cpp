// Storage formats of packed weights: a stack whose weights are in a format gives the bits of one whose weights were
// rounded to that format before, on the plain device and on the fenced one.
#include <gtest/gtest.h>

#include "cpu/isa.h"
#include "storage_formats.h"

namespace recurra {
namespace {

const bool reports = (report_fence_faults(), true);

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
    const std::vector<T> ones(x.size(), one);
    kernels<T>().product({1, 1, n, &one, 1, {packed.data(), &storage, ones.data()}, nullptr, y.data(), n});
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i]))
        ASSERT_TRUE(std::isnan(y[i]));
      else
        ASSERT_EQ(double(y[i]), format.rounded(double(x[i]))) << format.name << " of " << x[i];
    }
  }
}

template <class T>
void expect_the_bits_of_rounded_weights(const Devices& devices, const Case& c, const Format& format,
                                        const std::vector<ptrdiff_t>& batches) {
  SCOPED_TRACE(c.name);
  begin_fence_case(c.name.c_str());
  const Stack<T> stack(devices, c.options);
  const std::vector<T> parameters = stack.random_parameters();
  const std::vector<double> exact = stack.stored(format, parameters);
  const auto plain = stack.pack(parameters), stored = stack.pack(format, parameters, 3),
             rounded = stack.pack(std::vector<T>(exact.begin(), exact.end()));
  for (ptrdiff_t rows : batches) {
    const Given given = {rows, c.steps};
    for (int threads : {1, 3})
      for (bool records : {false, true})
        expect_same(stack.forward(*stored, given, threads, records), stack.forward(*rounded, given, threads, records));
    expect_same(stack.steps(*stored, {rows, 4}), stack.steps(*rounded, {rows, 4}));
    EXPECT_NE(stack.steps(*stored, {rows, 4}), stack.steps(*plain, {rows, 4})) << "nothing was rounded";
  }
}

template <class T>
void expect_the_bits_of_rounded_weights(const Devices& devices, const std::vector<ptrdiff_t>& batches) {
  const EagerThreads eager;
  for (const Format& format : kFormats)
    for (const Case& c : all_cases())
      if (!format.largest) expect_the_bits_of_rounded_weights<T>(devices, c, format, batches);
}

TYPED_TEST(Stored, AStackHasTheBitsOfRoundedWeights) {
  expect_the_bits_of_rounded_weights<TypeParam>(cpu_devices(), {1, 2, 13});
}
TYPED_TEST(Stored, AStackOnTheFencedDeviceHasThem) {  // a fence costs a system call for each operation
  expect_the_bits_of_rounded_weights<TypeParam>(fenced_devices(), {2});
}

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
