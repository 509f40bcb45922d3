#include "platform/barrier.h"

#include <chrono>
#include <thread>

#include "platform/clock.h"
#include "platform/parallel.h"

namespace recurra {

bool SpinBarrier::wait_longer(unsigned round) {
  const bool patient = is_patient();
  const long long late = steady_ns() + (patient ? 0 : kLateAfter);
  while (__atomic_load_n(&round_, __ATOMIC_ACQUIRE) == round) {
    if (__atomic_load_n(&broken_, __ATOMIC_RELAXED)) return false;
    if (steady_ns() < late) {  // not yielding: whoever gets the processor then may keep it for milliseconds
      pause();
      continue;
    }
    if (!patient) __atomic_store_n(&late_, 1, __ATOMIC_RELAXED);
    // A processor that is free is one that the other can be moved to.
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
  return true;
}

}  // namespace recurra
