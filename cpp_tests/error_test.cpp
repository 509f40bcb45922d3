#include "platform/error.h"

#include <gtest/gtest.h>

namespace recurra {
namespace {

std::string text_of(void (*fn)()) {
  try {
    fn();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Error, ShapesReadAsInPython) {
  const int64_t dims[] = {2, 3, 5};
  EXPECT_EQ(shape_text(dims, 3), "(2, 3, 5)");
  EXPECT_EQ(shape_text(dims, 1), "(2,)");
  EXPECT_EQ(shape_text(dims, 0), "()");
}

TEST(Error, BeginsWithTheOperation) {
  EXPECT_EQ(text_of([] { fail("LSTM", "no"); }), "LSTM: no");
  EXPECT_EQ(text_of([] { check(false, "LSTM", "got ", 3, ", expected ", 2.5); }), "LSTM: got 3, expected 2.5");
  EXPECT_EQ(text_of([] { check(true, "LSTM", "got ", 3); }), "nothing was thrown");
  EXPECT_EQ(text_of([] { throw TypeMismatch("LSTM", "float64"); }), "LSTM: float64");
}

}  // namespace
}  // namespace recurra
