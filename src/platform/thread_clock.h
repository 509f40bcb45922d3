// The CPU time of threads. Where the system does not tell it of other threads, it is the time that passes, so that no
// thread ever seems to have waited for a processor.
#pragma once
#include <cstdint>
#include <thread>

namespace recurra {

class ThreadClock {
 public:
  void of(std::thread& thread);
  long long ns() const;  // called by any thread, while that one lives

 private:
  [[maybe_unused]] uint64_t id_ = 0;
};

// The calling thread's, on the same scale.
long long own_cpu_ns();

}  // namespace recurra
