// Threads. The only header of platform/ that per-ISA code may include, so plain C++ without std::.
#pragma once
#include <stddef.h>

namespace recurra {

typedef void (*TaskFunction)(void* context, ptrdiff_t task);

// Runs fn(context, 0 .. tasks - 1), on at most `threads` threads, the caller among them, and returns when all are done.
// Each task runs exactly once; which thread runs it is not defined, and fewer threads than asked for may come: other
// callers' threads count against the same limit, and a process forked from one whose threads were in use runs serially.
// fn must not throw. Nested calls run on their caller.
void parallel_for(ptrdiff_t tasks, int threads, TaskFunction fn, void* context);

// Runs fn(context, member, members) once on each of `members` <= threads threads at the same time, so that they may
// wait for each other. How many come is settled before the first one starts, by the rules above.
typedef void (*TeamFunction)(void* context, int member, int members);
void parallel_team(int threads, TeamFunction fn, void* context);

// The limit for a call; the default respects the CPU affinity, the cgroup's quota and OMP_NUM_THREADS.
int num_threads();
void set_num_threads(int threads);  // >= 1
int default_num_threads();

// What a long call polls to learn whether it should give up. poll() is cheap enough for an inner loop: it looks at the
// clock, and at most every 50 ms, and only on the thread that made the Stop, asks the caller's function. Once it is
// true it stays true, on every thread.
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
