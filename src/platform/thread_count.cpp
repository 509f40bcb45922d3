#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>

#include "platform/account.h"
#include "platform/cpu_quota.h"
#include "platform/error.h"
#include "platform/parallel.h"
#include "platform/placement.h"

namespace recurra {
namespace {

std::atomic<int> limit{0};  // 0 before the first use

}  // namespace

int default_num_threads() {
  int threads = std::max(1, usable_processors());
  threads = static_cast<int>(std::min<double>(threads, std::ceil(cgroup_cpu_quota())));
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {  // NOLINT(concurrency-mt-unsafe): only read
    // It may be a list, one number per level of nesting.
    const long wanted = std::strtol(text, nullptr, 10);
    if (wanted >= 1 && wanted < threads) threads = static_cast<int>(wanted);
  }
  return std::min(threads, kMostThreads);
}

int num_threads() {
  int threads = limit.load(std::memory_order_relaxed);
  if (threads > 0) return threads;
  const int found = default_num_threads();
  return limit.compare_exchange_strong(threads, found) ? found : threads;
}

void set_num_threads(int threads) {
  check(threads >= 1 && threads <= kMostThreads, "set_num_threads", "got ", threads, ", expected 1 to ", kMostThreads);
  limit.store(threads);
  forgive_losses();
}

}  // namespace recurra
