// Random numbers by place: a function of a key and a counter, so they depend on no order, thread or batch.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace recurra {

// Philox4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Each (key,
// counter) gives four independent, uniform 32-bit words.
inline std::array<uint32_t, 4> philox(uint64_t key, uint64_t counter_high, uint64_t counter_low) {
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  uint32_t c0 = uint32_t(counter_low), c1 = uint32_t(counter_low >> 32);
  uint32_t c2 = uint32_t(counter_high), c3 = uint32_t(counter_high >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
    c1 = uint32_t(p1);
    c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c3 = uint32_t(p0);
    k0 += 0x9E3779B9;  // the golden ratio and sqrt(3) - 1: the Weyl sequences of the round keys
    k1 += 0xBB67AE85;
  }
  return {c0, c1, c2, c3};
}

// The numbers of one place, one after the other.
class RandomNumbers {
 public:
  RandomNumbers(uint64_t seed, uint64_t row, uint32_t step) : seed_(seed), row_(row), step_(step) {}

  // In [0, 1), a multiple of 2^-53.
  double uniform() {
    if (used_ % 2 == 0) words_ = philox(seed_, row_, uint64_t(step_) << 32 | used_ / 2);
    const size_t at = 2 * (used_++ % 2);
    return double((uint64_t(words_[at + 1]) << 32 | words_[at]) >> 11) * 0x1p-53;
  }

 private:
  const uint64_t seed_, row_;
  const uint32_t step_;
  uint32_t used_ = 0;
  std::array<uint32_t, 4> words_ = {};
};

}  // namespace recurra
