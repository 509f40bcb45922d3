// The CPU's hint for spin loops.
#pragma once

namespace recurra {

inline __attribute__((always_inline)) void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace recurra
