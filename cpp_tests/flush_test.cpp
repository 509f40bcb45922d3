#include "platform/flush.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace recurra {
namespace {

constexpr float kTiny = std::numeric_limits<float>::min();

bool results_flushed() {
  volatile float tiny = kTiny;
  return tiny * 0.25f == 0;
}

bool operands_flushed() {
  volatile float subnormal = std::numeric_limits<float>::denorm_min();
  return subnormal * 1e30f == 0;
}

TEST(FlushScope, FlushesResultsAndOperandsThenRestores) {
  ASSERT_FALSE(results_flushed());
  {
    const FlushScope flush;
    EXPECT_TRUE(results_flushed());
    EXPECT_TRUE(operands_flushed());
    {
      const FlushScope inner;
      EXPECT_TRUE(results_flushed());
    }
    EXPECT_TRUE(results_flushed());
  }
  EXPECT_FALSE(results_flushed());
  EXPECT_FALSE(operands_flushed());
}

TEST(FlushScope, DoublesToo) {
  volatile double tiny = std::numeric_limits<double>::min();
  const FlushScope flush;
  EXPECT_EQ(tiny * 0.5, 0);
}

}  // namespace
}  // namespace recurra
