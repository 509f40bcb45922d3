// The seam between parallel calls and the source of their threads: the package's own pool (pool.cpp, the default) or
// OpenMP (openmp.cpp). The build links exactly one of them.
#pragma once
#include "platform/parallel.h"

namespace recurra {

// One member's part of a call. Returns false if it started too late to contribute.
typedef bool (*Part)(void* context, int member, int members);

// Runs part(context, member, members) once for each member in [0, members), member 0 on the caller, and returns when
// all parts are done. `members` <= threads is lower if the system provides fewer. A part whose thread is scheduled late
// starts late, or runs on the caller after the caller's own part.
void run_parts(int threads, Part part, void* context);

// The linked source of threads: "pool" or "openmp".
const char* thread_kind();

}  // namespace recurra
