#pragma once
#include <time.h>

#include <chrono>
#include <thread>

namespace recurra {

inline long long steady_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// The CPU time of the thread that `clock` belongs to; CLOCK_THREAD_CPUTIME_ID is the calling thread's.
inline long long cpu_ns(clockid_t clock) {
  timespec time = {};
  clock_gettime(clock, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

// Sleeps for `us` microseconds.
inline void nap(long long us) { std::this_thread::sleep_for(std::chrono::microseconds(us)); }

}  // namespace recurra
