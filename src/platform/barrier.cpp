#include "platform/barrier.h"

#include <chrono>
#include <thread>

#include "platform/clock.h"
#include "platform/parallel.h"

namespace recurra {

bool SpinBarrier::wait_longer(unsigned round) {
  const long long begin = steady_ns();
  while (__atomic_load_n(&round_, __ATOMIC_ACQUIRE) == round) {
    if (__atomic_load_n(&broken_, __ATOMIC_RELAXED)) return false;
    const bool patient = is_patient();
    if (!patient && steady_ns() - begin < kLateAfter) {  // no yield: another process may keep the processor long
      pause();
      continue;
    }
    if (!patient) __atomic_store_n(&late_, 1, __ATOMIC_RELAXED);
    // Sleeping frees this processor, so that the scheduler can move the late member to it.
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
  if (__atomic_load_n(&late_, __ATOMIC_RELAXED)) __atomic_fetch_add(&waited_, steady_ns() - begin, __ATOMIC_RELAXED);
  return true;
}

}  // namespace recurra
