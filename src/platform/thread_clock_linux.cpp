#include <pthread.h>
#include <time.h>

#include "platform/thread_clock.h"

namespace recurra {
namespace {

long long cpu_ns(clockid_t clock) {
  timespec time = {};
  clock_gettime(clock, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

}  // namespace

void ThreadClock::of(std::thread& thread) {
  clockid_t clock = 0;
  pthread_getcpuclockid(thread.native_handle(), &clock);
  id_ = static_cast<uint64_t>(clock);
}

long long ThreadClock::ns() const { return cpu_ns(static_cast<clockid_t>(id_)); }

long long own_cpu_ns() { return cpu_ns(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace recurra
