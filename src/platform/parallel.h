// Threads. The only header of platform/ beside the barrier's that per-ISA code may include, so plain C++ without std::.
#pragma once
#include <stddef.h>

namespace recurra {

constexpr int kMostThreads = 1024;

// Runs fn(context, member, task) for tasks 0 .. tasks - 1, on at most `threads` threads, the caller among them, and
// returns when all are done. Each task runs exactly once; which thread runs it is not defined, and fewer threads than
// asked for may come: other callers' threads count against the same limit, and nobody waits for a thread that has not
// begun while the caller could do its work. A member, below `threads`, runs one task at a time. fn must not throw.
// Nested calls run on their caller.
typedef void (*TaskFunction)(void* context, int member, ptrdiff_t task);
void parallel_for(ptrdiff_t tasks, int threads, TaskFunction fn, void* context);

// Runs fn(context, member, members) once on each of `members` <= threads threads at the same time, so that they may
// wait for each other. How many come is settled before the first one starts, by the rules above.
typedef void (*TeamFunction)(void* context, int member, int members);
void parallel_team(int threads, TeamFunction fn, void* context);

// Threads that wait for each other lose more than they gain where the processors have other work, such as this
// process's siblings. What calls gain and lose is kept account of; when more was lost, calls stay on their callers for
// a moment, for longer each time that it is found again. A team adds what it has lost at its barriers.
void note_waiting(long long ns);
bool stays_alone();
constexpr long long kLateAfter = 200'000;  // ns: no thread that has a processor is so late

// A patient process waits for its threads, however late, and keeps no account: for tests of what threads do together.
void set_patient(bool patient);
bool is_patient();

// The limit for a call; the default respects the CPU affinity, the cgroup's quota and OMP_NUM_THREADS. Setting it
// begins anew with as many threads.
int num_threads();
void set_num_threads(int threads);  // >= 1
int default_num_threads();

// What a long call polls to learn whether it should give up. poll() is cheap enough for an inner loop: it looks at the
// clock, and at most every 50 ms, and only on the thread that made the Stop, asks the caller's function. Once it is
// true it stays true, on every thread. It is true in a child that the function forked.
class Stop {
 public:
  typedef bool (*Function)(void* context);
  Stop(Function ask, void* context);
  bool poll();
  bool requested() const { return __atomic_load_n(&requested_, __ATOMIC_RELAXED); }

 private:
  Function ask_;
  void* context_;
  unsigned long owner_;
  long long next_;  // steady clock, ns
  bool requested_;
};

}  // namespace recurra
