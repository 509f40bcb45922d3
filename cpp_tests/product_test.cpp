// The products: every element is the same chain of multiply-adds, bit for bit, whatever the shape around it.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "cpu/isa.h"
#include "device/device.h"

namespace recurra {
namespace {

template <class T>
std::vector<T> random_values(size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<T> x(n);
  for (T& v : x) v = static_cast<T>(normal(generator));
  return x;
}

// One multiply-add as the instruction set in use does it.
template <class T>
T step(T a, T b, T c) {
  const bool fused = std::string(isa_name()) != "baseline";
  volatile T product = a * b;  // volatile: two roundings, not one
  return fused ? std::fma(a, b, c) : product + c;
}

template <class T>
class Product : public testing::Test {};
typedef testing::Types<float, double> Types;
TYPED_TEST_SUITE(Product, Types);

TYPED_TEST(Product, EachElementIsOneChainFromTheBias) {
  typedef TypeParam T;
  const Device<T>& device = cpu_device<T>();
  for (ptrdiff_t rows : {1, 2, 3, 5, 6, 7, 13})
    for (ptrdiff_t columns : {1, 3, 8, 17, 45, 64, 67, 130})
      for (ptrdiff_t k : {1, 2, 31}) {
        const auto a = random_values<T>(size_t(rows * k), 1), w = random_values<T>(size_t(columns * k), 2);
        const auto bias = random_values<T>(size_t(columns), 3);
        std::vector<T> packed(size_t(device.packed_size(k, columns))), y(size_t(rows * columns) + 1, T(7));
        device.pack_matrix(w.data(), k, columns, true, packed.data());
        Arena arena;
        const Run run = {cpu_devices(), arena, arena, 1, nullptr, false, {}};
        const Batch batch = {rows, 1, nullptr, nullptr, 0, 0};
        device.product(run, batch, k, columns, packed.data(), bias.data(), {a.data(), k, k},
                       {y.data(), columns, columns});
        for (ptrdiff_t r = 0; r < rows; ++r)
          for (ptrdiff_t c = 0; c < columns; ++c) {
            T expected = bias[size_t(c)];
            for (ptrdiff_t i = 0; i < k; ++i) expected = step(a[size_t(r * k + i)], w[size_t(c * k + i)], expected);
            ASSERT_EQ(y[size_t(r * columns + c)], expected)
                << rows << "x" << k << "x" << columns << " at " << r << ", " << c;
          }
        ASSERT_EQ(y.back(), T(7)) << "wrote past the end";
      }
}

TYPED_TEST(Product, OuterIsTheSumOverRowsWhateverTheThreads) {
  typedef TypeParam T;
  const Device<T>& device = cpu_device<T>();
  const ptrdiff_t rows = 600, in = 19, out = 141;
  const auto x = random_values<T>(size_t(rows * in), 4), dy = random_values<T>(size_t(rows * out), 5);
  const Batch batch = {rows, 1, nullptr, nullptr, 0, 0};
  std::vector<T> results[2], biases[2];
  for (int threads : {1, 2}) {
    Arena arena;
    const Run run = {cpu_devices(), arena, arena, threads, nullptr, false, {}};
    auto& gradient = results[threads - 1];
    auto& bias = biases[threads - 1];
    gradient.assign(size_t(in * out), 0);
    bias.assign(size_t(out), 0);
    device.outer(run, batch, in, out, {x.data(), in, in}, {dy.data(), out, out}, gradient.data(), bias.data());
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(biases[0], biases[1]);
  const double tolerance = 600 * 4 * std::numeric_limits<T>::epsilon();
  for (ptrdiff_t o = 0; o < out; ++o)
    for (ptrdiff_t i = 0; i < in; ++i) {
      double expected = 0;
      for (ptrdiff_t r = 0; r < rows; ++r) expected += double(dy[size_t(r * out + o)]) * double(x[size_t(r * in + i)]);
      ASSERT_NEAR(results[0][size_t(o * in + i)], expected, tolerance);
    }
}

}  // namespace
}  // namespace recurra
