// The error bounds that simd/math.h states, asserted.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "backend/isa.h"

namespace recurra {
namespace {

template <class T>
using Row = void (*)(const T*, T*, ptrdiff_t);

// Distance in units in the last place of the exact result.
template <class T>
double ulp(T got, long double exact) {
  const T rounded = static_cast<T>(exact);
  const T next = std::nextafter(std::fabs(rounded), std::numeric_limits<T>::infinity());
  return static_cast<double>(std::fabs(static_cast<long double>(got) - exact) /
                             (static_cast<long double>(next) - std::fabs(rounded)));
}

template <class T>
std::vector<T> grid(double low, double high, int n) {
  std::vector<T> x;
  for (int i = 0; i <= n; ++i) x.push_back(static_cast<T>(low + (high - low) * i / n));
  for (double tiny = 1e-30; tiny < 1; tiny *= 1.07)
    for (double sign : {-1.0, 1.0})
      if (sign * tiny >= low && sign * tiny <= high) x.push_back(static_cast<T>(sign * tiny));
  return x;
}

template <class T, class Exact>
double worst(Row<T> f, const std::vector<T>& x, const Exact& exact) {
  std::vector<T> y(x.size());
  f(x.data(), y.data(), static_cast<ptrdiff_t>(x.size()));
  double most = 0;
  for (size_t i = 0; i < x.size(); ++i) most = std::max(most, ulp(y[i], exact(static_cast<long double>(x[i]))));
  return most;
}

template <class T>
class Math : public testing::Test {
 public:
  const RowKernels<T>& rows = kernels<T>().rows;
  static constexpr bool kFloat = sizeof(T) == 4;
  static constexpr int kPoints = kFloat ? 2000000 : 400000;
  static constexpr double kLimit = kFloat ? 87 : 708;
};
typedef testing::Types<float, double> Types;
TYPED_TEST_SUITE(Math, Types);

TYPED_TEST(Math, Exp) {
  const auto exact = [](long double x) { return std::exp(x); };
  EXPECT_LE(worst<TypeParam>(this->rows.exp, grid<TypeParam>(-this->kLimit, this->kLimit, this->kPoints), exact), 1.5);
  EXPECT_LE(worst<TypeParam>(this->rows.exp, grid<TypeParam>(-1, 1, this->kPoints), exact), 1.5);
}

TYPED_TEST(Math, Tanh) {
  const auto exact = [](long double x) { return std::tanh(x); };
  EXPECT_LE(worst<TypeParam>(this->rows.tanh, grid<TypeParam>(-25, 25, this->kPoints), exact), 3.0);
  EXPECT_LE(worst<TypeParam>(this->rows.tanh, grid<TypeParam>(-1, 1, this->kPoints), exact), 3.0);
}

TYPED_TEST(Math, Sigmoid) {
  const auto exact = [](long double x) { return 1 / (1 + std::exp(-x)); };
  EXPECT_LE(worst<TypeParam>(this->rows.sigmoid, grid<TypeParam>(-this->kLimit, 60, this->kPoints), exact), 3.0);
  EXPECT_LE(worst<TypeParam>(this->rows.sigmoid, grid<TypeParam>(-1, 1, this->kPoints), exact), 3.0);
}

TYPED_TEST(Math, BeyondTheRangeResultsStayFiniteAndNaNStays) {
  typedef TypeParam T;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const std::vector<T> x = {inf, -inf, T(1e30), T(-1e30), nan, 0};
  std::vector<T> y(x.size());
  const ptrdiff_t n = static_cast<ptrdiff_t>(x.size());
  this->rows.tanh(x.data(), y.data(), n);
  EXPECT_EQ(y[0], 1);
  EXPECT_EQ(y[1], -1);
  EXPECT_EQ(y[2], 1);
  EXPECT_EQ(y[3], -1);
  EXPECT_TRUE(std::isnan(y[4]));
  EXPECT_EQ(y[5], 0);
  this->rows.sigmoid(x.data(), y.data(), n);
  EXPECT_EQ(y[0], 1);
  EXPECT_LE(y[1], this->kFloat ? 2e-38 : 4e-308);
  EXPECT_GE(y[1], 0);
  EXPECT_TRUE(std::isnan(y[4]));
  EXPECT_EQ(y[5], T(0.5));
  this->rows.exp(x.data(), y.data(), n);
  EXPECT_TRUE(std::isfinite(y[0]));
  EXPECT_GT(y[0], this->kFloat ? 1e37 : 1e307);
  EXPECT_LE(y[1], this->kFloat ? 2e-38 : 4e-308);
  EXPECT_TRUE(std::isnan(y[4]));
}

TYPED_TEST(Math, AnElementDoesNotDependOnWhereItStands) {
  typedef TypeParam T;
  const std::vector<T> x = grid<T>(-9, 9, 300);
  std::vector<T> whole(x.size());
  for (Row<T> f : {this->rows.exp, this->rows.tanh, this->rows.sigmoid}) {
    f(x.data(), whole.data(), static_cast<ptrdiff_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      T alone;
      f(&x[i], &alone, 1);
      ASSERT_EQ(alone, whole[i]) << x[i];
    }
  }
}

}  // namespace
}  // namespace recurra
