// Threads. Per-ISA code may include only this header and barrier.h of platform/, so it is plain C++ without std::.
#pragma once
#include <stddef.h>

namespace recurra {

constexpr int kMostThreads = 1024;

// Parallel loop: runs fn(context, member, task) once for each task in [0, tasks) on at most `threads` threads, caller
// included, and returns when all tasks are done. Tasks are scheduled dynamically. Fewer threads than `threads` may take
// part: concurrent callers share one limit, and the caller takes over the tasks of a thread that has not started.
// `member`, in [0, threads), identifies the thread; it runs one task at a time. fn must not throw. Nested calls run
// serially on their caller.
typedef void (*TaskFunction)(void* context, int member, ptrdiff_t task);
void parallel_for(ptrdiff_t tasks, int threads, TaskFunction fn, void* context);

// Runs fn(context, member, members) once on each of `members` <= threads threads, all running concurrently, so that
// they may synchronise with barriers. `members` is fixed before fn starts anywhere, by the rules above.
typedef void (*TeamFunction)(void* context, int member, int members);
void parallel_team(int threads, TeamFunction fn, void* context);

// On a machine with other load, such as sibling processes, threads that wait for each other cost more than they gain.
// Gains and losses are summed over calls; when losses prevail, calls run serially on their callers for a while, which
// grows each time that losses prevail again. note_waiting() adds `ns` that a team lost at its barriers.
void note_waiting(long long ns);
bool stays_alone();
constexpr long long kLateAfter = 200'000;  // ns; a thread that is later than this was not scheduled

// For tests of multithreaded code: a patient process always waits for its threads and never falls back to serial calls.
void set_patient(bool patient);
bool is_patient();

// The maximum number of threads in a call. The default is the least of the CPU affinity's size, the cgroup's CPU quota
// and OMP_NUM_THREADS. Setting it also ends a fallback to serial calls.
int num_threads();
void set_num_threads(int threads);  // >= 1
int default_num_threads();

// Cancellation of a long call. poll() is cheap enough for an inner loop: it reads the clock, and calls `ask` at most
// every 50 ms, only on the thread that constructed the Stop. Once true it stays true, on every thread. It is also true
// in a child process that `ask` forked.
class Stop {
 public:
  typedef bool (*Function)(void* context);
  Stop(Function ask, void* context);
  bool poll();
  bool requested() const { return __atomic_load_n(&requested_, __ATOMIC_RELAXED); }

 private:
  Function ask_;
  void* context_;
  const void* owner_;
  long long next_;  // steady clock, ns
  bool requested_;
};

}  // namespace recurra
