#pragma once
#include <chrono>
#include <thread>

namespace recurra {

inline long long steady_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// Sleeps for `us` microseconds.
inline void nap(long long us) { std::this_thread::sleep_for(std::chrono::microseconds(us)); }

}  // namespace recurra
