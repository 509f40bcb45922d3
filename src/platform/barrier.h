// Spinning barrier for a team that synchronises many times per millisecond. Included by per-ISA code: plain C++ without
// std::, and no function with external linkage.
#pragma once
#include "platform/pause.h"

namespace recurra {

class SpinBarrier {
 public:
  // All members of a round get the same answer. kLeft: a member called leave(), and all should return. kApart: a member
  // was so late that it must have been descheduled; one member should continue alone.
  enum Answer { kTogether, kApart, kLeft };

  // Blocks until `members` threads have called it.
  inline __attribute__((always_inline)) Answer wait(int members) {
    const unsigned round = __atomic_load_n(&round_, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&arrived_, 1, __ATOMIC_ACQ_REL) == members) {
      __atomic_store_n(&arrived_, 0, __ATOMIC_RELAXED);
      apart_ = __atomic_load_n(&late_, __ATOMIC_RELAXED);  // the last to arrive decides for all
      __atomic_store_n(&round_, round + 1, __ATOMIC_RELEASE);
    }
    for (int spins = 0; __atomic_load_n(&round_, __ATOMIC_ACQUIRE) == round; ++spins) {
      if (__atomic_load_n(&broken_, __ATOMIC_RELAXED)) return kLeft;
      if (spins == kSpins) {
        if (!wait_longer(round)) return kLeft;
        break;
      }
      pause();
    }
    return apart_ ? kApart : kTogether;
  }
  inline __attribute__((always_inline)) void leave() { __atomic_store_n(&broken_, 1, __ATOMIC_RELAXED); }
  long long waited() const { return __atomic_load_n(&waited_, __ATOMIC_RELAXED); }  // ns, for late members

 private:
  static constexpr int kSpins = 100;  // about 2 us, longer than members of a balanced step wait

  // Slow path of wait(). False if a member left.
  bool wait_longer(unsigned round);

  alignas(64) int arrived_ = 0;
  alignas(64) unsigned round_ = 0;
  int apart_ = 0;
  int broken_ = 0;
  int late_ = 0;
  long long waited_ = 0;
};

}  // namespace recurra
