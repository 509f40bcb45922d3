#include "platform/cpu.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "platform/cpu_quota.h"

namespace recurra {
namespace {

TEST(Cpu, TheSimplestAlwaysUnknownNever) {
#if defined(__aarch64__)
  const bool is_arm = true;
#else
  const bool is_arm = false;
#endif
  EXPECT_EQ(cpu_supports("baseline"), !is_arm);
  EXPECT_EQ(cpu_supports("neon"), is_arm);
  EXPECT_FALSE(cpu_supports("avx1024"));
  EXPECT_FALSE(cpu_supports(""));
  EXPECT_FALSE(cpu_supports("AVX2"));
}

#if defined(__linux__) && defined(__x86_64__)
// The kernel lists a feature only if it also saves its registers.
TEST(Cpu, AgreesWithTheKernel) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && line.compare(0, 5, "flags") != 0) {
  }
  ASSERT_FALSE(line.empty());
  const auto all = [&](std::istringstream names) {
    for (std::string name; names >> name;) {
      if ((line + " ").find(" " + name + " ") == std::string::npos) return false;
    }
    return true;
  };
  const bool avx2 = all(std::istringstream("avx2 fma f16c bmi1 bmi2"));
  EXPECT_EQ(cpu_supports("avx2"), avx2);
  EXPECT_EQ(cpu_supports("avx512"), avx2 && all(std::istringstream("avx512f avx512vl avx512bw avx512dq")));
}
#endif

// A file tree that looks like /proc and /sys/fs/cgroup.
class CpuQuota : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = ::testing::TempDir() + "recurra_quota_XXXXXX";
    ASSERT_NE(mkdtemp(&path[0]), nullptr);
    root_ = path;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(root_ + path.substr(0, path.rfind('/')));
    std::ofstream(root_ + path) << text;
  }
  void mount_v2(const std::string& mounted) {
    write("/proc/self/mountinfo",
          "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
          "30 22 0:26 " +
              mounted + " /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
  }

  std::string root_;
};

TEST_F(CpuQuota, NoneWithoutFiles) { EXPECT_TRUE(std::isinf(cgroup_cpu_quota(root_))); }

TEST_F(CpuQuota, Version2TakesTheTightestOnTheWayUp) {
  mount_v2("/");
  write("/proc/self/cgroup", "0::/service/worker\n");
  write("/sys/fs/cgroup/service/worker/cpu.max", "400000 100000\n");
  EXPECT_EQ(cgroup_cpu_quota(root_), 4);
  write("/sys/fs/cgroup/service/cpu.max", "150000 100000\n");
  EXPECT_EQ(cgroup_cpu_quota(root_), 1.5);
  write("/sys/fs/cgroup/service/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_cpu_quota(root_), 4);
}

TEST_F(CpuQuota, Version2InANamespace) {
  mount_v2("/");
  write("/proc/self/cgroup", "0::/\n");
  write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(cgroup_cpu_quota(root_), 0.5);
}

TEST_F(CpuQuota, Version1InAContainer) {
  write("/proc/self/mountinfo",
        "31 22 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "32 22 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  write("/proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n");
  write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n");
  write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpu_quota(root_), 2.5);
  write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  EXPECT_TRUE(std::isinf(cgroup_cpu_quota(root_)));
}

TEST_F(CpuQuota, PathOutsideTheNamespace) {
  mount_v2("/../../other");
  write("/proc/self/cgroup", "0::/../../other/x\n");
  write("/sys/fs/cgroup/cpu.max", "300000 100000\n");
  EXPECT_EQ(cgroup_cpu_quota(root_), 3);
}

TEST_F(CpuQuota, NonsenseIsNoQuota) {
  mount_v2("/");
  write("/proc/self/cgroup", "0::/\nnonsense\n");
  write("/sys/fs/cgroup/cpu.max", "lots\n");
  EXPECT_TRUE(std::isinf(cgroup_cpu_quota(root_)));
}

}  // namespace
}  // namespace recurra
