// The only file that knows OpenMP. Without it, or with RECURRA_STD_THREADS (ThreadSanitizer takes libgomp's barriers
// for races), teams are made of std::thread, which is right everywhere and costs a thread's start per call.
#include "platform/parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <system_error>
#include <thread>
#include <vector>

#include "platform/cpu_quota.h"
#include "platform/error.h"
#include "platform/flush.h"

#if defined(_OPENMP) && !defined(RECURRA_STD_THREADS)
#define RECURRA_OPENMP 1
#include <omp.h>
#elif defined(__linux__)
#include <sched.h>
#endif

namespace recurra {
namespace {

constexpr int kMostThreads = 1024;  // far from where the system refuses, which libgomp answers by ending the process

// No locks anywhere: a fork may come at any moment, and its child must not find one held.
std::atomic<int> limit{0};         // 0: not known yet
std::atomic<int> active{0};        // threads inside parallel_for, all callers together
std::atomic<bool> pooled{false};   // threads were in use in this process
std::atomic<bool> forked{false};   // this process was made by a fork ...
std::atomic<bool> orphan{false};   // ... of one whose threads were in use
thread_local bool inside = false;  // this thread runs a task

// The child has one thread and none of the parent's pools, though OpenMP believes they are there and would wait for
// them.
void after_fork_in_child() {
  forked.store(true);
  orphan.store(pooled.load());
  active.store(inside ? 1 : 0);
}

const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);

// One thread's part of a call.
class Part {
 public:
  Part() : nested_(inside) { inside = true; }
  ~Part() { inside = nested_; }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;

 private:
  const FlushScope flush_;
  const bool nested_;
};

struct Call {
  TeamFunction fn;
  void* context;
  void run(int member, int members) const {
    const Part part;
    fn(context, member, members);
  }
};

// Threads of its own for one call. Where the system gives fewer, the team is smaller.
void run_on_fresh_threads(const Call& call, int threads) {
  std::vector<std::thread> team;
  team.reserve(threads - 1);
  std::atomic<int> members{0};  // not known before the last one has started
  const auto part = [&](int member) {
    while (members.load(std::memory_order_acquire) == 0) std::this_thread::yield();
    call.run(member, members.load(std::memory_order_relaxed));
  };
  int started = 1;
  try {
    for (; started < threads; ++started) team.emplace_back(part, started);
  } catch (const std::system_error&) {
  }
  members.store(started, std::memory_order_release);
  part(0);
  for (std::thread& member : team) member.join();
}

#if defined(RECURRA_OPENMP)

void run_on_team(const Call& call, int threads) {
  // In a forked child even a pool we never used may be stale: another library may share the OpenMP runtime with us.
  if (forked.load(std::memory_order_relaxed)) return run_on_fresh_threads(call, threads);
#pragma omp parallel num_threads(threads)
  call.run(omp_get_thread_num(), omp_get_num_threads());
}

// By affinity; unlike sched_getaffinity it sees through OMP_PROC_BIND, which binds the main thread to one processor.
int usable_processors() { return omp_get_num_procs(); }

#else

void run_on_team(const Call& call, int threads) { run_on_fresh_threads(call, threads); }

int usable_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

#endif

// This call's share of the limit: the caller always, the others as far as it goes.
class Claim {
 public:
  explicit Claim(int wanted) : threads_(1) {
    int before = active.load(std::memory_order_relaxed);
    do {
      threads_ = std::max(1, std::min(wanted, num_threads() - before));
    } while (!active.compare_exchange_weak(before, before + threads_, std::memory_order_relaxed));
  }
  ~Claim() { active.fetch_sub(threads_, std::memory_order_relaxed); }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  int threads() const { return threads_; }

 private:
  int threads_;
};

long long steady_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

unsigned long this_thread() { return static_cast<unsigned long>(pthread_self()); }

constexpr long long kAskEvery = 50'000'000;  // ns

}  // namespace

void parallel_team(int threads, TeamFunction fn, void* context) {
  const Call call = {fn, context};
  if (inside) return call.run(0, 1);
  const bool serial = orphan.load(std::memory_order_relaxed);
  const Claim claim(serial ? 1 : threads);
  if (claim.threads() == 1) return call.run(0, 1);
  pooled.store(true, std::memory_order_relaxed);
  run_on_team(call, claim.threads());
}

void parallel_for(ptrdiff_t tasks, int threads, TaskFunction fn, void* context) {
  if (tasks <= 0) return;
  struct Job {  // NOLINT(clang-analyzer-optin.performance.Padding)
    ptrdiff_t tasks;
    TaskFunction fn;
    void* context;
    alignas(64) std::atomic<ptrdiff_t> taken{0};  // apart from what all threads only read
  } job{tasks, fn, context};
  const auto work = [](void* self, int member, int members) {
    Job& all = *static_cast<Job*>(self);
    // First the task of its own number, so that repeated calls find their data in the same caches, then whatever is
    // left.
    for (ptrdiff_t task = member; task < all.tasks; task = members + all.taken.fetch_add(1, std::memory_order_relaxed))
      all.fn(all.context, task);
  };
  parallel_team(static_cast<int>(std::min<ptrdiff_t>(tasks, threads)), work, &job);
}

int default_num_threads() {
  int threads = std::max(1, usable_processors());
  threads = static_cast<int>(std::min<double>(threads, std::ceil(cgroup_cpu_quota())));
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {  // NOLINT(concurrency-mt-unsafe): only read
    // It may be a list, one number per level of nesting.
    const long wanted = std::strtol(text, nullptr, 10);
    if (wanted >= 1 && wanted < threads) threads = static_cast<int>(wanted);
  }
  return std::min(threads, kMostThreads);
}

int num_threads() {
  int threads = limit.load(std::memory_order_relaxed);
  if (threads > 0) return threads;
  const int found = default_num_threads();
  return limit.compare_exchange_strong(threads, found) ? found : threads;
}

void set_num_threads(int threads) {
  check(threads >= 1 && threads <= kMostThreads, "set_num_threads", "got ", threads, ", expected 1 to ", kMostThreads);
  limit.store(threads);
}

Stop::Stop(Function ask, void* context)
    : ask_(ask), context_(context), owner_(this_thread()), next_(steady_ns() + kAskEvery), requested_(false) {}

bool Stop::poll() {
  if (requested()) return true;
  if (ask_ == nullptr || this_thread() != owner_) return false;
  const long long now = steady_ns();
  if (now < next_) return false;
  if (ask_(context_)) __atomic_store_n(&requested_, true, __ATOMIC_RELAXED);
  next_ = steady_ns() + kAskEvery;  // counted from its end: asking may take as long as it likes
  return requested();
}

}  // namespace recurra
