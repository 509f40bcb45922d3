#include "platform/cpu_quota.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

namespace recurra {
namespace {

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

bool lists(const std::string& comma_separated, const std::string& word) {
  return ("," + comma_separated + ",").find("," + word + ",") != std::string::npos;
}

// The quota in one cgroup's directory. v2: cpu.max, "max 100000" or "150000 100000"; v1: two files, quota -1 for none.
double quota_of(const std::string& folder, bool v2) {
  double quota = -1, period = -1;  // unchanged if a file is missing or says "max"
  if (v2) {
    std::ifstream(folder + "/cpu.max") >> quota >> period;
  } else {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  return quota > 0 && period > 0 ? quota / period : kNoQuota;
}

// This process's cgroup path, from lines such as "7:cpu,cpuacct:/path" (v1) and "0::/path" (v2); "" if there is none.
std::string own_path(const std::string& root, bool v2) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string id, controllers, path;
    std::getline(std::getline(std::getline(fields, id, ':'), controllers, ':'), path);
    if (v2 ? id == "0" && controllers.empty() : lists(controllers, "cpu")) return path;
  }
  return "";
}

double quota_in(const std::string& root, const std::string& mounted, const std::string& mount_point, bool v2) {
  // Only cgroups below `mounted` are visible, at the mount point. A path outside it belongs to another namespace; then
  // only the mount point itself can be read.
  std::string path = own_path(root, v2);
  const std::string prefix = mounted == "/" ? "" : mounted;
  const bool visible = path.compare(0, prefix.size(), prefix) == 0 && path.find("/..") == std::string::npos;
  path = visible ? path.substr(prefix.size()) : "";

  double quota = kNoQuota;
  std::string folder = root;
  folder += mount_point;
  const size_t top = folder.size();
  folder += path;
  while (true) {
    quota = std::min(quota, quota_of(folder, v2));
    const size_t slash = folder.rfind('/');
    if (slash == std::string::npos || slash < top) return quota;
    folder.resize(slash);
  }
}

}  // namespace

double cgroup_cpu_quota(const std::string& root) {
  // Lines of mountinfo: id parent device mounted mount_point options [tags...] - type source options
  std::ifstream mounts(root + "/proc/self/mountinfo");
  double quota = kNoQuota;
  for (std::string line; std::getline(mounts, line);) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line), right(line.substr(dash + 3));
    std::string id, parent, device, mounted, mount_point, type, source, options;
    left >> id >> parent >> device >> mounted >> mount_point;
    right >> type >> source >> options;
    const bool v2 = type == "cgroup2";
    if (v2 || (type == "cgroup" && lists(options, "cpu"))) {
      quota = std::min(quota, quota_in(root, mounted, mount_point, v2));
    }
  }
  return quota;
}

}  // namespace recurra
