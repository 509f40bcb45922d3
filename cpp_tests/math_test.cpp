// The error bounds that kernels/simd/math.h states, asserted.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "cpu/isa.h"

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

// The activations of kernels/rows/activations.h.
TYPED_TEST(Math, Elu) {
  const auto exact = [](long double x) { return x > 0 ? x : std::expm1(x); };
  EXPECT_LE(worst<TypeParam>(this->rows.activation[kElu], grid<TypeParam>(-100, 10, this->kPoints), exact), 1.5);
  EXPECT_LE(worst<TypeParam>(this->rows.activation[kElu], grid<TypeParam>(-1, 1, this->kPoints), exact), 1.5);
}

TYPED_TEST(Math, Gelu) {
  const auto exact = [](long double x) { return x * std::erfc(-x / std::sqrt(2.0L)) / 2; };
  const double low = this->kFloat ? -12.5 : -37;
  EXPECT_LE(worst<TypeParam>(this->rows.activation[kGelu], grid<TypeParam>(low, 40, this->kPoints), exact), 6.0);
  EXPECT_LE(worst<TypeParam>(this->rows.activation[kGelu], grid<TypeParam>(-1, 1, this->kPoints), exact), 6.0);
}

TYPED_TEST(Math, Silu) {
  const auto exact = [](long double x) { return x / (1 + std::exp(-x)); };
  EXPECT_LE(worst<TypeParam>(this->rows.activation[kSilu], grid<TypeParam>(-this->kLimit, 60, this->kPoints), exact),
            3.0);
  EXPECT_LE(worst<TypeParam>(this->rows.activation[kSilu], grid<TypeParam>(-1, 1, this->kPoints), exact), 3.0);
}

TYPED_TEST(Math, Softplus) {
  const auto exact = [](long double x) { return std::max(x, 0.0L) + std::log1p(std::exp(-std::fabs(x))); };
  EXPECT_LE(
      worst<TypeParam>(this->rows.activation[kSoftplus], grid<TypeParam>(-this->kLimit, 60, this->kPoints), exact),
      3.0);
  EXPECT_LE(worst<TypeParam>(this->rows.activation[kSoftplus], grid<TypeParam>(-1, 1, this->kPoints), exact), 3.0);
}

TYPED_TEST(Math, ActivationsBeyondTheRangeStayBoundedAndNaNStays) {
  typedef TypeParam T;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const std::vector<T> x = {inf, T(1e30), -inf, T(-1e30), nan};
  std::vector<T> y(x.size()), slope(x.size());
  const std::vector<T> one(x.size(), T(1));
  const ptrdiff_t n = static_cast<ptrdiff_t>(x.size());
  for (int kind = 0; kind < kSoftmax; ++kind) {
    this->rows.activation[kind](x.data(), y.data(), n);
    this->rows.activation_gradient[kind](x.data(), y.data(), one.data(), slope.data(), n);
    EXPECT_TRUE(std::isnan(y[4])) << kind;
    if (kind == kTanh || kind == kSigmoid) continue;
    EXPECT_EQ(y[0], inf) << kind;
    EXPECT_EQ(y[1], T(1e30)) << kind;
    EXPECT_EQ(slope[0], 1) << kind;
    if (kind == kLeakyRelu) continue;
    for (int i : {2, 3}) {
      EXPECT_LE(std::fabs(y[size_t(i)] + (kind == kElu ? 1 : 0)), this->kFloat ? 4e-36 : 4e-305) << kind;
      EXPECT_LE(std::fabs(slope[size_t(i)]), this->kFloat ? 4e-36 : 4e-305) << kind;
    }
  }
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
  std::vector<Row<T>> functions = {this->rows.exp, this->rows.tanh, this->rows.sigmoid};
  for (int kind = 0; kind < kSoftmax; ++kind) functions.push_back(this->rows.activation[kind]);
  for (Row<T> f : functions) {
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
