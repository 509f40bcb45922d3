// How much CPU time the process's cgroup grants it: containers limit it, while all processors stay visible.
#pragma once
#include <string>

namespace recurra {

// The tightest quota on the way from this process's cgroup to the root, in CPUs (2.5 is two and a half); infinity if
// none. Knows cgroup v1 and v2. `root` is put before the paths it reads.
double cgroup_cpu_quota(const std::string& root = "");

}  // namespace recurra
