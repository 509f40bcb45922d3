#pragma once
#include <time.h>

#include <chrono>
#include <thread>

namespace recurra {

inline long long steady_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// What a thread's clock says, such as CLOCK_THREAD_CPUTIME_ID, the calling one's: for how long it has run.
inline long long cpu_ns(clockid_t clock) {
  timespec time = {};
  clock_gettime(clock, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

// Gives the processor away for that long.
inline void nap(long long us) { std::this_thread::sleep_for(std::chrono::microseconds(us)); }

}  // namespace recurra
