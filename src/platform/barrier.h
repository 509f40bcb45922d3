// Where the members of a team wait for each other, many times a millisecond. Included by per-ISA code: plain C++
// without std::, nothing that becomes a symbol.
#pragma once
#include <sched.h>

namespace recurra {

class SpinBarrier {
 public:
  // Waits until `members` are here. False: one of them has left for good, and everyone should.
  inline __attribute__((always_inline)) bool wait(int members) {
    const unsigned round = __atomic_load_n(&round_, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&arrived_, 1, __ATOMIC_ACQ_REL) == members) {
      __atomic_store_n(&arrived_, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&round_, round + 1, __ATOMIC_RELEASE);
    }
    for (int spins = 0; __atomic_load_n(&round_, __ATOMIC_ACQUIRE) == round; ++spins) {
      if (__atomic_load_n(&broken_, __ATOMIC_RELAXED)) return false;
      if (spins < kSpins)
        pause();
      else
        sched_yield();  // the other's processor may be this one
    }
    return true;
  }
  inline __attribute__((always_inline)) void leave() { __atomic_store_n(&broken_, 1, __ATOMIC_RELAXED); }

 private:
  static constexpr int kSpins = 100;  // some 2 us: longer than a balanced step leaves open

  static inline __attribute__((always_inline)) void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  alignas(64) int arrived_ = 0;
  alignas(64) unsigned round_ = 0;
  int broken_ = 0;
};

}  // namespace recurra
