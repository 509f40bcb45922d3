#include "fence.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include <cstdio>
#include <map>
#include <mutex>

namespace recurra {
namespace {

constexpr size_t kPage = 4096;

class Fence {
 public:
  static Fence& one() {
    static Fence* const fence = new Fence();
    return *fence;
  }

  void move(int by) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool was_open = open_ > 0;
    open_ += by;
    if (was_open == (open_ > 0)) return;
    for (const auto& [data, size] : chunks_) protect(data, size);
  }

  char* take(size_t size, size_t alignment) {
    const size_t whole = (size + alignment + 2 * kPage - 1) / kPage * kPage;
    void* mapped = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    char* begin = static_cast<char*>(mapped);
    const std::lock_guard<std::mutex> lock(mutex_);
    chunks_[begin] = whole;
    protect(begin, whole);
    return begin + (alignment - reinterpret_cast<size_t>(begin) % alignment) % alignment;
  }

  void give_back(const char* data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = holder(data);
    munmap(found->first, found->second);
    chunks_.erase(found);
  }

  // Without a lock: for a handler of signals.
  bool holds(const char* data) const {
    const auto found = holder(data);
    return found != chunks_.end() && data < found->first + found->second;
  }

 private:
  typedef std::map<char*, size_t> Chunks;
  Chunks::const_iterator holder(const char* data) const {
    auto after = chunks_.upper_bound(const_cast<char*>(data));
    return after == chunks_.begin() ? chunks_.end() : std::prev(after);
  }
  void protect(char* data, size_t size) const {
    if (mprotect(data, size, open_ > 0 ? PROT_READ | PROT_WRITE : PROT_NONE) != 0) std::abort();
  }

  std::mutex mutex_;
  Chunks chunks_;
  int open_ = 0;
};

class FencedMemory final : public MemorySource {
 public:
  char* take(size_t size, size_t alignment) override { return Fence::one().take(size, alignment); }
  void give_back(char* data, size_t) override { Fence::one().give_back(data); }
};

class Gate final : public HostGate {
 public:
  void open() override { Fence::one().move(1); }
  void close() override { Fence::one().move(-1); }
};

const char* current_case = "";

void report(int signal, siginfo_t* info, void*) {
  if (Fence::one().holds(static_cast<const char*>(info->si_addr))) {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::fprintf(
        stderr,
        "\nfence: in %s.%s %s the host looked at a device's memory outside its operations. Make it an operation "
        "of the device, or open a HostAccess around it; a debugger shows where it is.\n",
        test ? test->test_suite_name() : "?", test ? test->name() : "?", current_case);
  }
  ::signal(signal, SIG_DFL);  // the fault comes again
}

}  // namespace

FenceOpen::FenceOpen() { Fence::one().move(1); }
FenceOpen::~FenceOpen() { Fence::one().move(-1); }
FenceClosed::FenceClosed() { Fence::one().move(-1); }
FenceClosed::~FenceClosed() { Fence::one().move(1); }

MemorySource& fenced_memory() {
  static FencedMemory memory;
  return memory;
}

HostGate& fence_gate() {
  static Gate gate;
  return gate;
}

void report_fence_faults() {
  struct sigaction action = {};
  action.sa_sigaction = report;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

void begin_fence_case(const char* name) { current_case = name; }

}  // namespace recurra
