#include "platform/tasks.h"

namespace recurra {
namespace {

std::atomic<bool> is_eager{false};

}  // namespace

int threads_for(double work, double least) {
  return work < least && !is_eager.load(std::memory_order_relaxed) ? 1 : num_threads();
}

void set_eager(bool eager) { is_eager.store(eager); }

}  // namespace recurra
