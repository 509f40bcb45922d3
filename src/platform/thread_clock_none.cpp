#include "platform/clock.h"
#include "platform/thread_clock.h"

namespace recurra {

void ThreadClock::of(std::thread&) {}
long long ThreadClock::ns() const { return steady_ns(); }
long long own_cpu_ns() { return steady_ns(); }

}  // namespace recurra
