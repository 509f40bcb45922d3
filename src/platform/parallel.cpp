#include "platform/parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "platform/clock.h"
#include "platform/cpu_quota.h"
#include "platform/error.h"
#include "platform/flush.h"
#include "platform/pause.h"
#include "platform/pool.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace recurra {
namespace {

// No locks here: a fork may come at any moment, and its child must not find one held.
std::atomic<int> limit{0};         // 0: not known yet
std::atomic<int> active{0};        // threads inside a call, all callers together
thread_local bool inside = false;  // this thread is one of them
thread_local int claimed = 0;      // by this thread's call

// The child has one thread, which may be inside a call.
const int registered = pthread_atfork(nullptr, nullptr, [] { active.store(claimed); });

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

// What threads gained and lost, in ns: time that helpers ran, time that was waited for those who did not. Gains of long
// ago do not count, so more than kCredit are forgotten. When losses prevail calls stay on their callers until `until`;
// the next pause is four times as long, unless things went well for that time before it.
struct Account {
  static constexpr long long kCredit = 4'000'000, kFirstPause = 4'000'000, kLongestPause = 500'000'000;
  std::atomic<long long> balance{0}, until{0}, pause{0};
  std::atomic<bool> patient{false};

  void add(long long gained, long long lost) {
    if (patient.load(std::memory_order_relaxed)) return;
    const long long sum = balance.load(std::memory_order_relaxed) + gained - lost;  // a lost update is no matter
    if (sum > -kLateAfter) return balance.store(std::min(sum, kCredit), std::memory_order_relaxed);
    balance.store(0, std::memory_order_relaxed);
    const long long now = steady_ns(), last = pause.load(std::memory_order_relaxed);
    const bool went_well = now - until.load(std::memory_order_relaxed) > 4 * last;
    const long long next = went_well ? kFirstPause : std::min(4 * last, kLongestPause);
    pause.store(next, std::memory_order_relaxed);
    until.store(now + next, std::memory_order_relaxed);
  }
} account;

// This call's share of the limit: the caller always, the others as far as it goes.
class Claim {
 public:
  explicit Claim(int wanted) : threads_(1) {
    static_cast<void>(registered);
    if (wanted > 1 && stays_alone()) wanted = 1;
    int before = active.load(std::memory_order_relaxed);
    do {
      threads_ = std::max(1, std::min(wanted, num_threads() - before));
    } while (!active.compare_exchange_weak(before, before + threads_, std::memory_order_relaxed));
    claimed = threads_;
  }
  ~Claim() {
    claimed = 0;
    active.fetch_sub(threads_, std::memory_order_relaxed);
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  int threads() const { return threads_; }

 private:
  int threads_;
};

// First each member takes the task of its own number, so that repeated calls find their data in the same caches, then
// whatever is left.
struct Job {  // NOLINT(clang-analyzer-optin.performance.Padding)
  ptrdiff_t tasks;
  TaskFunction fn;
  void* context;
  int members;
  alignas(64) std::atomic<ptrdiff_t> taken{0};  // apart from what all threads only read

  void run(int member) {
    const Part part;
    for (ptrdiff_t task = member; task < tasks; task = members + taken.fetch_add(1, std::memory_order_relaxed))
      fn(context, member, task);
  }
};

struct Team {
  TeamFunction fn;
  void* context;
  int invited;                  // helpers
  std::atomic<int> arrived{0};  // of them
  std::atomic<int> members{0};  // 0: not settled

  // The numbers are the helpers' own where all came, else those of their arrival.
  void run(int helper) {
    const int place = arrived.fetch_add(1) + 1;
    int all = 0;
    while ((all = members.load(std::memory_order_acquire)) == 0) pause();
    const Part part;
    fn(context, all == invited + 1 ? helper : place, all);
  }
};

void finish(Helpers& helpers) {
  for (int i = 1; i <= helpers.count(); ++i) {
    const Helpers::Times times = helpers.finish(i);
    account.add(times.ran, times.kept);
  }
}

int usable_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

void parallel_for(ptrdiff_t tasks, int threads, TaskFunction fn, void* context) {
  if (tasks <= 0) return;
  Job job = {tasks, fn, context, 1, {0}};
  if (inside) return job.run(0);
  const Claim claim(static_cast<int>(std::min<ptrdiff_t>(tasks, threads)));
  Helpers helpers(claim.threads() - 1);
  job.members = 1 + helpers.count();
  if (job.members == 1) return job.run(0);
  helpers.offer([](void* self, int helper) { static_cast<Job*>(self)->run(helper); }, &job);
  const long long offered = steady_ns();
  job.run(0);
  for (int i = 1; i < job.members && !is_patient(); ++i) {
    if (!helpers.withdraw(i)) continue;
    job.run(i);  // the work of one who is late is the caller's
    if (helpers.absent(i) > kLateAfter)
      account.add(0, steady_ns() - offered);  // whoever is on its processor is disturbed
  }
  finish(helpers);
}

void parallel_team(int threads, TeamFunction fn, void* context) {
  const auto alone = [&] {
    const Part part;
    fn(context, 0, 1);
  };
  if (inside) return alone();
  const Claim claim(threads);
  Helpers helpers(claim.threads() - 1);
  if (helpers.count() == 0) return alone();
  Team team = {fn, context, helpers.count(), {0}, {0}};
  helpers.offer([](void* self, int helper) { static_cast<Team*>(self)->run(helper); }, &team);
  const long long late = steady_ns() + kLateAfter;
  while (team.arrived.load() < team.invited && (is_patient() || steady_ns() < late)) pause();
  int come = team.invited;
  for (int i = 1; team.arrived.load() < come && i <= team.invited; ++i)
    if (helpers.withdraw(i)) --come;
  if (come < team.invited) account.add(0, kLateAfter);
  while (team.arrived.load() < come) pause();  // those that have begun are about to
  team.members.store(come + 1, std::memory_order_release);
  {
    const Part part;
    fn(context, 0, come + 1);
  }
  finish(helpers);
}

void note_waiting(long long ns) {
  if (ns > 0) account.add(0, ns);
}
bool stays_alone() { return steady_ns() < account.until.load(std::memory_order_relaxed); }

void set_patient(bool patient) {
  account.patient.store(patient);
  account.until.store(0);
}
bool is_patient() { return account.patient.load(std::memory_order_relaxed); }

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
  account.until.store(0);
}

}  // namespace recurra
