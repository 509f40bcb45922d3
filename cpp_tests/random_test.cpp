// Random masks: the generator's known answers, and that rows of masks are made of its words on every instruction set.
#include "platform/random.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "cpu/isa.h"

namespace recurra {
namespace {

typedef std::array<uint32_t, 4> Block;

// The known answers for philox4x32-10 published with Random123.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox(0, 0, 0), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint64_t ones = ~uint64_t{0};
  EXPECT_EQ(philox(ones, ones, ones), (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // The digits of pi: counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0, low words first.
  EXPECT_EQ(philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, EveryInputBitMatters) {
  const Block zero = philox(0, 0, 0);
  for (int bit = 0; bit < 64; ++bit) {
    const uint64_t one = uint64_t{1} << bit;
    EXPECT_NE(philox(one, 0, 0), zero);
    EXPECT_NE(philox(0, one, 0), zero);
    EXPECT_NE(philox(0, 0, one), zero);
  }
}

TEST(Philox, MeanIsHalf) {
  double sum = 0;
  for (uint64_t i = 0; i < 100000; ++i) {
    for (const uint32_t word : philox(42, 7, i)) sum += word;
  }
  EXPECT_NEAR(sum / 400000 / 4294967296.0, 0.5, 0.002);  // four standard deviations
}

template <class T>
void expect_words_of_philox() {
  const RowKernels<T>& rows = kernels<T>().rows;
  const uint64_t key = 0x0123456789abcdef, row = 0x0000000700000003;
  for (const ptrdiff_t n : {1, 15, 16, 17, 64, 65, 200}) {
    const size_t size = static_cast<size_t>(n);
    std::vector<T> mask(size, T(-1)), x(size, T(3)), y(size, T(-1));
    const uint32_t last = 0x4ccccccc;  // 0.3 of all words
    rows.mask(key, row, last, T(1), T(0), mask.data(), n);
    rows.dropout(key, row, last, T(2), x.data(), y.data(), n);
    for (ptrdiff_t k = 0; k < n; ++k) {
      const uint32_t word = philox(key, row, uint64_t(k / 64 * 16 + k % 16))[size_t(k / 16 % 4)];
      EXPECT_EQ(mask[size_t(k)], T(word <= last)) << k;
      EXPECT_EQ(y[size_t(k)], word <= last ? T(0) : T(6)) << k;
    }
  }
}
TEST(Masks, AreTheWordsOfPhilox) {
  expect_words_of_philox<float>();
  expect_words_of_philox<double>();
}

}  // namespace
}  // namespace recurra
