// OpenMP's threads: those of one runtime, which other libraries of the process may use as well. A parallel region ends
// when all its threads have come to its end, so nothing is taken back from one that is late.
#include <omp.h>
#include <pthread.h>
#include <setjmp.h>

#include <algorithm>

#include "platform/account.h"
#include "platform/clock.h"
#include "platform/helper_signals.h"
#include "platform/threads.h"

namespace recurra {
namespace {

thread_local int started = 0;       // threads of this thread's last region, which the runtime keeps for its next one
thread_local int forks = 0;         // between this thread and its first process
thread_local bool cut_off = false;  // a child of a fork inside a region, which never comes to the region's end

// A runtime like GCC's does not notice that a child lacks the threads of its parent, and would wait for them. So a
// thread gives its own back before it forks, and both processes start new ones. Inside a region it cannot.
void give_threads_back() {
  if (started > 0 && omp_pause_resource(omp_pause_soft, omp_get_initial_device()) == 0) started = 0;
}

const int registered = pthread_atfork(give_threads_back, nullptr, [] { ++forks; });

// By an empty region: the caller's own signals are let through while it works.
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
  long long caller_ended = 0, wall = 0, cpu = 0, late = 0;  // ns; the last three of all helpers together
#pragma omp parallel num_threads(threads) reduction(+ : wall, cpu, late)
  {
    const int member = omp_get_thread_num(), members = omp_get_num_threads();
    if (member == 0) {
      part(context, 0, members);
      if (forks != forks_before)
        longjmp(behind_region, 1);  // the region's end would wait for threads that are not here
      caller_ended = steady_ns();
    } else {
      const long long began = steady_ns(), began_cpu = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
      part(context, member, members);
      late += began - offered;
      wall += steady_ns() - began;
      cpu += cpu_ns(CLOCK_THREAD_CPUTIME_ID) - began_cpu;
    }
  }
  if (steady_ns() - caller_ended < kLongWait)
    book(wall, 0);
  else
    book(cpu, std::max(0LL, late + wall - cpu));
}

const char* thread_kind() { return "openmp"; }

}  // namespace recurra
