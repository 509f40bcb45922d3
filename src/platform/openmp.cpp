// Threads of the OpenMP runtime, which other libraries in the process may use as well. A parallel region ends only when
// all its threads have reached its end, so no part can be taken back from a late thread.
#include <omp.h>
#include <setjmp.h>

#include <algorithm>
#include <atomic>

#include "platform/account.h"
#include "platform/clock.h"
#include "platform/fork.h"
#include "platform/helper_signals.h"
#include "platform/thread_clock.h"
#include "platform/threads.h"

namespace recurra {
namespace {

thread_local int started = 0;       // threads of this thread's last region; the runtime keeps them for the next
thread_local int forks = 0;         // counted by the thread that forks, in the child
thread_local bool cut_off = false;  // in a child forked inside a region, which it left without reaching the end

// GCC's runtime does not notice that a child lacks its parent's threads, and would wait for them. So a thread releases
// its threads before it forks, and both processes start new ones. Inside a region this is impossible and has no effect.
void give_threads_back() {
  if (started > 0 && omp_pause_resource(omp_pause_soft, omp_get_initial_device()) == 0) started = 0;
}

const int registered = at_fork(give_threads_back, nullptr, [] { ++forks; });

// Starts the threads in an empty region, so that the caller's signals are not blocked during its own part.
void start(int threads) {
  const HelperSignals signals;
#pragma omp parallel num_threads(threads)
  asm volatile("");
}

}  // namespace

void run_parts(int threads, Part part, void* context) {
  static_cast<void>(registered);
  if (cut_off) return static_cast<void>(part(context, 0, 1));
  if (threads > started) start(threads);
  started = threads;
  const int forks_before = forks;
  jmp_buf behind_region;
  if (setjmp(behind_region) != 0) {
    cut_off = true;
    return;
  }
  const long long offered = steady_ns();
  // ns; the last three are sums over helpers. A reduction would take a lock that all regions of the process share: a
  // fork by another thread may find it locked, and the child's first region would wait for it forever.
  long long caller_ended = 0;
  std::atomic<long long> wall{0}, cpu{0}, late{0};
#pragma omp parallel num_threads(threads)
  {
    const int member = omp_get_thread_num(), members = omp_get_num_threads();
    if (member == 0) {
      part(context, 0, members);
      if (forks != forks_before) longjmp(behind_region, 1);  // the region's end would wait for missing threads
      caller_ended = steady_ns();
    } else {
      const long long began = steady_ns(), began_cpu = own_cpu_ns();
      part(context, member, members);
      late += began - offered;
      wall += steady_ns() - began;
      cpu += own_cpu_ns() - began_cpu;
    }
  }
  if (steady_ns() - caller_ended < kLongWait)
    book(wall, 0);
  else
    book(cpu, std::max(0LL, late + (wall - cpu)));
}

const char* thread_kind() { return "openmp"; }

}  // namespace recurra
