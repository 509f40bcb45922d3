// Where the members of a team wait for each other, many times a millisecond. Included by per-ISA code: plain C++
// without std::, nothing that becomes a symbol.
#pragma once
#include "platform/pause.h"

namespace recurra {

class SpinBarrier {
 public:
  // What all members of a round are told alike: kLeft, one of them has left for good, and everyone should. kApart: one
  // came so late that its processor must have other work, and one member had better go on alone.
  enum Answer { kTogether, kApart, kLeft };

  // Waits until `members` are here.
  inline __attribute__((always_inline)) Answer wait(int members) {
    const unsigned round = __atomic_load_n(&round_, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&arrived_, 1, __ATOMIC_ACQ_REL) == members) {
      __atomic_store_n(&arrived_, 0, __ATOMIC_RELAXED);
      apart_ = __atomic_load_n(&late_, __ATOMIC_RELAXED);  // the last one decides
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
  long long waited() const { return __atomic_load_n(&waited_, __ATOMIC_RELAXED); }  // ns, for those who were late

 private:
  static constexpr int kSpins = 100;  // some 2 us: longer than a balanced step leaves open

  // False: someone has left.
  bool wait_longer(unsigned round);

  alignas(64) int arrived_ = 0;
  alignas(64) unsigned round_ = 0;
  int apart_ = 0;
  int broken_ = 0;
  int late_ = 0;
  long long waited_ = 0;
};

}  // namespace recurra
