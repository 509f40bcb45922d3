// The seam between calls and the threads that help with them: the package's own pool (pool.cpp), or OpenMP's
// (openmp.cpp) where the build asks for them. Exactly one of the two is linked.
#pragma once
#include "platform/parallel.h"

namespace recurra {

// One member's part of a call. False: it came too late, nothing was left to do.
typedef bool (*Part)(void* context, int member, int members);

// Runs part(context, member, members) once for each member < members, member 0 on the caller, and returns when all have
// ended. `members` is at most `threads`, and less where the system gives fewer. The parts run at the same time where
// processors are free for them; one whose thread has not come may run late, or on the caller when its own has ended.
void run_parts(int threads, Part part, void* context);

// Which of the two this is: "pool" or "openmp".
const char* thread_kind();

}  // namespace recurra
