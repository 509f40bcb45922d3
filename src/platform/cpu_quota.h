// The process's CPU quota. Containers limit CPU time by cgroups, while all processors stay visible.
#pragma once
#include <string>

namespace recurra {

// The smallest quota of this process's cgroup and its ancestors, in CPUs (such as 2.5); infinity if there is none.
// Supports cgroup v1 and v2. `root` is prepended to the paths that are read.
double cgroup_cpu_quota(const std::string& root = "");

}  // namespace recurra
