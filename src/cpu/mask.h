// Which random words drop a unit.
#pragma once
#include <cmath>

#include "device/batch.h"

namespace recurra {

struct RandomMask {
  uint64_t key, first_row;
  uint32_t last;  // words up to this one hit, with chance p > 0

  RandomMask(const RandomRows& random, uint64_t stream, double p)
      : key(random.seed ^ (stream + 1) * 0x9E3779B97F4A7C15u),
        first_row(uint64_t(random.first_row)),
        last(uint32_t(std::ceil(p * 4294967296.0) - 1)) {}
  uint64_t row(int64_t row, int64_t step) const { return (first_row + uint64_t(row)) << 32 | uint64_t(step); }
};

}  // namespace recurra
