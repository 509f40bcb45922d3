// A digest of bytes that tells whether they are the same; no defence against someone who wants it to be wrong.
#pragma once
#include <cstdint>
#include <cstring>

namespace recurra {

// `begin`: of what came before.
inline uint64_t digest_of(const void* data, size_t size, uint64_t begin = 0) {
  constexpr uint64_t kFactor = 0x9E3779B97F4A7C15u;
  constexpr size_t kWord = sizeof(uint64_t), kLanes = 4;  // independent, so that they are multiplied side by side
  const auto mixed = [](uint64_t sum, uint64_t word) {
    sum = (sum ^ word) * kFactor;
    return sum ^ (sum >> 29);
  };
  uint64_t lanes[kLanes] = {begin, ~begin, begin + kFactor, size};
  const char* from = static_cast<const char*>(data);
  size_t i = 0;
  for (; i + kLanes * kWord <= size; i += kLanes * kWord)
    for (size_t k = 0; k < kLanes; ++k) {
      uint64_t word;
      std::memcpy(&word, from + i + k * kWord, kWord);
      lanes[k] = mixed(lanes[k], word);
    }
  for (; i < size; i += kWord) {
    uint64_t word = 0;
    std::memcpy(&word, from + i, size - i < kWord ? size - i : kWord);
    lanes[0] = mixed(lanes[0], word);
  }
  for (size_t k = 1; k < kLanes; ++k) lanes[0] = mixed(lanes[0], lanes[k]);
  return lanes[0];
}

}  // namespace recurra
