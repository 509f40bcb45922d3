// Storage formats with a scale for each column: values against the weights that they stand for, computed with in f64,
// and bits that depend on no rows, chunks, threads or devices.
#include <gtest/gtest.h>

#include "cpu/isa.h"
#include "layers/packed.h"
#include "storage_formats.h"

namespace recurra {
namespace {

template <class T>
class Scaled : public testing::Test {};
typedef testing::Types<float, double> Types;
TYPED_TEST_SUITE(Scaled, Types);

template <class F>
void for_scaled_formats(const F& f) {
  int formats = 0;
  for (const Format& format : kFormats) {
    if (!format.largest) continue;
    SCOPED_TRACE(format.name);
    f(format);
    ++formats;
  }
  ASSERT_GT(formats, 0);
}

template <class F>
void for_all_cases(const F& f) {
  for (const auto& cases : {all_cases(), cases_in_pieces()})
    for (const Case& c : cases) {
      SCOPED_TRACE(c.name);
      begin_fence_case(c.name.c_str());
      f(c);
    }
}

template <class T>
double largest_difference(const std::vector<T>& got, const std::vector<double>& wanted) {
  EXPECT_EQ(got.size(), wanted.size());
  double largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = std::fabs(double(got[i]) - wanted[i]);
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

// Outputs and states, which are about 1 in magnitude, after as many as 80 steps.
template <class T>
constexpr double kBound = sizeof(T) == sizeof(float) ? 2e-6 : 1e-14;

TYPED_TEST(Scaled, AStackComputesWithWhatItsWeightsStandFor) {
  typedef TypeParam T;
  for_scaled_formats([](const Format& format) {
    for_all_cases([&](const Case& c) {
      const Stack<T> stack(cpu_devices(), c.options);
      const Stack<double> reference(cpu_devices(), c.options);
      const std::vector<T> parameters = stack.random_parameters();
      const auto stored = stack.pack(format, parameters);
      const auto exact = reference.pack(stack.stored(format, parameters));
      const auto unrounded = reference.pack(std::vector<double>(parameters.begin(), parameters.end()));
      for (ptrdiff_t rows : {1, 4}) {
        const Given given = {rows, c.steps};
        for (bool records : {false, true}) {
          const std::vector<T> got = stack.forward(*stored, given, 1, records);
          EXPECT_LE(largest_difference(got, reference.forward(*exact, given, 1, records)), kBound<T>);
          EXPECT_GT(largest_difference(got, reference.forward(*unrounded, given, 1, records)), 4 * kBound<T>)
              << "the bound is too wide to see what the format rounds";
        }
      }
    });
  });
}

template <class T>
std::vector<T> row_of(const std::vector<T>& all, const Stack<T>& stack, Given given, ptrdiff_t row) {
  const ptrdiff_t y = given.steps * stack.output_size(), state = stack.state_size();
  const auto end = all.begin() + given.rows * y;
  std::vector<T> made(all.begin() + row * y, all.begin() + (row + 1) * y);
  made.insert(made.end(), end + row * state, end + (row + 1) * state);
  return made;
}

TYPED_TEST(Scaled, BitsDependOnNoRowsChunksThreadsOrDevices) {
  typedef TypeParam T;
  const EagerThreads eager;
  for_scaled_formats([](const Format& format) {
    for_all_cases([&](const Case& c) {
      const Stack<T> stack(cpu_devices(), c.options), fenced(fenced_devices(), c.options);
      const std::vector<T> parameters = stack.random_parameters();
      const auto stored = stack.pack(format, parameters), stored_fenced = fenced.pack(format, parameters, 3);
      const Given all = {13, c.steps};
      for (bool records : {false, true}) {
        const std::vector<T> wanted = stack.forward(*stored, all, 1, records);
        expect_same(stack.forward(*stored, all, 3, records), wanted);
        expect_same(fenced.forward(*stored_fenced, all, 3, records), wanted);
        for (ptrdiff_t rows : {1, 2, 5}) {
          const Given some = {rows, c.steps};
          for (int threads : {1, 3}) {
            const std::vector<T> got = stack.forward(*stored, some, threads, records);
            for (ptrdiff_t r = 0; r < rows; ++r)
              expect_same(row_of(got, stack, some, r), row_of(wanted, stack, all, r));
          }
        }
      }
      if (c.options.bidirectional) return;
      expect_same(stack.forward(*stored, all, 3, false, 5), stack.forward(*stored, all));
      for (ptrdiff_t rows : {1, 2, 7}) {
        const Given given = {rows, c.steps, false};
        const std::vector<T> wanted = stack.forward(*stored, given);
        expect_same(stack.steps(*stored, given), wanted);
        expect_same(fenced.steps(*stored_fenced, given), wanted);
        expect_same(stack.forward(*stored, given, 1, false, 1), wanted);
      }
    });
  });
}

// Columns of zeros, of numbers too small to be scaled, and of numbers that are not finite, beside one of ordinary ones.
TYPED_TEST(Scaled, ColumnsOfZerosAreZeros) {
  typedef TypeParam T;
  constexpr ptrdiff_t kColumns = 6, k = 3;
  const T tiny = std::numeric_limits<T>::denorm_min(), nan = std::numeric_limits<T>::quiet_NaN();
  const T w[kColumns][k] = {{0, 0, 0},   {T(-0.0), 0, 0}, {tiny, -tiny, 0},
                            {1, nan, 2}, {0.5, -2, 0.25}, {1, std::numeric_limits<T>::infinity(), 2}};
  const T bias[kColumns] = {1, 2, 3, 4, 5, 6}, x[k] = {1, 1, 1};
  for_scaled_formats([&](const Format& format) {
    const Device<T>& device = cpu_device<T>();
    Arena memory;
    T y[kColumns];
    PackedMatrix<T>::of(device, w[0], kColumns, k, bias, false, memory, device.storage(format.name))
        .multiply(1, x, k, y, kColumns);
    EXPECT_EQ(y[0], 1);
    EXPECT_EQ(y[1], 2);
    EXPECT_EQ(y[2], 3);
    EXPECT_TRUE(std::isnan(y[3]));
    EXPECT_EQ(y[4], T(3.75));
    EXPECT_FALSE(std::isfinite(y[5]));
  });
}

TYPED_TEST(Scaled, AStackWithColumnsOfZerosIsFinite) {
  typedef TypeParam T;
  for_scaled_formats([](const Format& format) {
    for (const Case& c : all_cases()) {
      SCOPED_TRACE(c.name);
      const Stack<T> stack(cpu_devices(), c.options);
      const Stack<double> reference(cpu_devices(), c.options);
      const std::vector<T> parameters = stack.with_zeros(stack.random_parameters());
      const auto stored = stack.pack(format, parameters);
      const auto exact = reference.pack(stack.stored(format, parameters));
      for (ptrdiff_t rows : {1, 4})
        EXPECT_LE(
            largest_difference(stack.forward(*stored, {rows, c.steps}), reference.forward(*exact, {rows, c.steps})),
            kBound<T>);
    }
  });
}

// What dense layers, convolutions and attention multiply by.
TYPED_TEST(Scaled, APlainMatrixComputesWithWhatItStandsFor) {
  typedef TypeParam T;
  for (const Format& format : kFormats)
    for (const Devices* devices : {&cpu_devices(), &fenced_devices()})
      for (ptrdiff_t columns : {1, 3, 8, 17, 45, 64, 130})
        for (ptrdiff_t k : {1, 2, 31, 200}) {
          SCOPED_TRACE(format.name + (" " + std::to_string(k)) + "x" + std::to_string(columns));
          constexpr ptrdiff_t rows = 13;
          const Device<T>& device = devices->of<T>();
          const std::vector<T> w = floats<T>(size_t(columns * k), 1), bias = floats<T>(size_t(columns), 2),
                               x = floats<T>(size_t(rows * k), 3);
          const auto packed = pack_matrix(device, w.data(), k, columns, true, bias.data(), Arena(devices->memory),
                                          device.storage(format.name));
          std::vector<T> y(size_t(rows * columns)), alone(y.size()), batch(y.size());
          packed->multiply(rows, x.data(), k, y.data(), columns);
          for (ptrdiff_t r = 0; r < rows; ++r)
            packed->multiply(1, x.data() + r * k, k, alone.data() + r * columns, columns);
          expect_same(alone, y);
          Arena arena(devices->memory), host;
          packed->multiply({*devices, arena, host, 3, nullptr, false, {}}, {rows, 1, nullptr, nullptr, 0, 0},
                           {x.data(), k, k}, {batch.data(), columns, columns});
          expect_same(batch, y);
          for (ptrdiff_t c = 0; c < columns; ++c) {
            const std::vector<double> column = stored_column(format, w.data() + c * k, k);
            for (ptrdiff_t r = 0; r < rows; ++r) {
              double exact = double(bias[size_t(c)]), size = std::fabs(exact);
              for (ptrdiff_t i = 0; i < k; ++i) {
                exact += double(x[size_t(r * k + i)]) * column[size_t(i)];
                size += std::fabs(double(x[size_t(r * k + i)]) * column[size_t(i)]);
              }
              // Each multiply-add rounds once or, without an instruction for it, twice.
              const double bound = double(k + 2) * double(std::numeric_limits<T>::epsilon()) * size;
              ASSERT_NEAR(double(y[size_t(r * columns + c)]), exact, bound) << r << ", " << c;
            }
          }
        }
}

}  // namespace
}  // namespace recurra
