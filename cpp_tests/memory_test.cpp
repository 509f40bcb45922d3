#include "platform/memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>

namespace recurra {
namespace {

uintptr_t address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

// A row of arrays of all sorts; each is written whole, so that overlaps show.
std::vector<std::pair<unsigned char*, size_t>> take_some(Arena& arena) {
  std::vector<std::pair<unsigned char*, size_t>> arrays;
  for (const size_t size : {1u, 63u, 64u, 65u, 5000u, 0u, 20000u, 70000u, 1u << 20, 3u << 20, 100u, 1u << 21}) {
    unsigned char* data = arena.take<unsigned char>(size);
    std::memset(data, static_cast<int>(arrays.size()), size);
    arrays.emplace_back(data, size);
  }
  return arrays;
}

TEST(Arena, ArraysAreAlignedAndApart) {
  Arena arena;
  const auto arrays = take_some(arena);
  for (size_t i = 0; i < arrays.size(); ++i) {
    const auto [data, size] = arrays[i];
    EXPECT_EQ(address(data) % 64, 0u);
    EXPECT_EQ(static_cast<size_t>(std::count(data, data + size, i)), size);
  }
}

TEST(Arena, SecondCallOfTheSameShapeAllocatesOnceThenNever) {
  Arena arena;
  take_some(arena);
  const size_t used = arena.used();
  EXPECT_GT(used, 6u << 20);
  EXPECT_GE(arena.bytes(), used);
  arena.reset();
  EXPECT_EQ(arena.used(), 0u);
  const size_t held = arena.bytes();
  const auto first = take_some(arena);
  EXPECT_EQ(arena.bytes(), held);
  EXPECT_EQ(arena.used(), used);
  for (int repeat = 0; repeat < 3; ++repeat) {
    arena.reset();
    EXPECT_EQ(take_some(arena), first);
    EXPECT_EQ(arena.bytes(), held);
  }
}

TEST(Arena, BigArraysBeginAtDifferentOffsetsInAPage) {
  for (const size_t size : {16384u, 65536u, 100000u, 1u << 20}) {
    Arena arena;
    for (int i = 0; i < 40; ++i) arena.take<char>(size);
    arena.reset();
    std::set<uintptr_t> offsets;
    for (int i = 0; i < 40; ++i) offsets.insert(address(arena.take<char>(size)) % 4096);
    EXPECT_EQ(offsets.size(), 40u) << size;
  }
}

TEST(Arena, BigChunksBeginAtHugePages) {
  Arena arena;
  EXPECT_EQ(address(arena.take<float>(1 << 20)) % (2 << 20), 0u);
  EXPECT_EQ(arena.bytes() % (2 << 20), 0u);
}

TEST(Arena, TooMuchIsBadAllocAndHarmsNothing) {
  Arena arena;
  int* data = arena.take<int>(100);
  data[99] = 7;
  const size_t used = arena.used();
  EXPECT_THROW(arena.take<double>(~size_t{0} / 4), std::bad_alloc);  // overflows
  EXPECT_THROW(arena.take<char>(~size_t{0}), std::bad_alloc);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they end the process instead
  EXPECT_THROW(arena.take<char>(~size_t{0} / 8), std::bad_alloc);    // no machine has it
#endif
  EXPECT_EQ(arena.used(), used);
  EXPECT_EQ(data[99], 7);
  EXPECT_NE(arena.take<int>(100), data);
}

TEST(Arena, Moves) {
  Arena first;
  int* data = first.take<int>(1000);
  data[999] = 5;
  Arena second(std::move(first));
  // NOLINTBEGIN(bugprone-use-after-move,clang-analyzer-cplusplus.Move): a moved-from arena is an empty one
  EXPECT_EQ(first.bytes(), 0u);
  EXPECT_EQ(first.used(), 0u);
  EXPECT_NE(first.take<int>(1000), data);
  // NOLINTEND(bugprone-use-after-move,clang-analyzer-cplusplus.Move)
  EXPECT_EQ(data[999], 5);
  first = std::move(second);
  EXPECT_EQ(data[999], 5);
  EXPECT_GT(first.used(), 0u);
}

TEST(Arena, CountingTakesNothing) {
  Arena count = Arena::counting(), arena;
  for (size_t n : {0, 1, 64, 65, 5000, 1 << 20}) {
    arena.take<float>(n);
    count.take<float>(n);
  }
  EXPECT_EQ(count.used(), arena.used());
  EXPECT_EQ(count.bytes(), 0u);
}

TEST(Arena, EmptyArenaHoldsNothing) {
  Arena arena;
  arena.reset();
  EXPECT_EQ(arena.bytes(), 0u);
  EXPECT_NE(arena.take<float>(0), nullptr);
}

#if defined(__SANITIZE_ADDRESS__)
TEST(ArenaDeathTest, AddressSanitizerSeesStepsBeyondAnArray) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  Arena arena;
  volatile char* data = arena.take<char>(64);
  arena.take<char>(64);
  EXPECT_DEATH(data[64] = 1, "use-after-poison");
  arena.reset();
  EXPECT_DEATH(data[0] = 1, "use-after-poison");
}
#endif

}  // namespace
}  // namespace recurra
