// How a kernel notices that its call should stop.
#pragma once
#include "kernels/simd/vec.h"
#include "platform/parallel.h"

namespace recurra::RECURRA_ISA {
namespace {

// Polls about every million multiply-adds.
struct Poll {
  Stop* stop;
  ptrdiff_t left;
  RECURRA_INLINE bool stopped(ptrdiff_t work) {
    if (!stop || (left -= work) > 0) return false;
    left = kInterval;
    return stop->poll();
  }
  static constexpr ptrdiff_t kInterval = 1 << 20;
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
