// Which random words drop a unit.
#pragma once
#include <cmath>
#include <cstdint>

namespace recurra {

struct RandomMask {
  uint64_t key;
  uint32_t last;  // words up to this one hit, with chance p > 0

  RandomMask(uint64_t seed, uint64_t stream, double p)
      : key(seed ^ (stream + 1) * 0x9E3779B97F4A7C15u), last(uint32_t(std::ceil(p * 4294967296.0) - 1)) {}
  static uint64_t row(int64_t row, int64_t step) { return uint64_t(row) << 32 | uint64_t(step); }
};

}  // namespace recurra
