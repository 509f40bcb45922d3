#include "platform/parallel.h"

#include <algorithm>
#include <atomic>

#include "platform/account.h"
#include "platform/clock.h"
#include "platform/flush.h"
#include "platform/fork.h"
#include "platform/pause.h"
#include "platform/threads.h"

namespace recurra {
namespace {

// No locks here: fork() may happen at any time, and the child must not inherit a locked one.
std::atomic<int> active{0};        // threads inside calls, over all callers
thread_local bool inside = false;  // this thread is inside a call
thread_local int claimed = 0;      // threads of this thread's call

// A child has one thread, which may be inside a call.
const int registered = at_fork(nullptr, nullptr, [] { active.store(claimed); });

// Marks this thread as inside a call during its lifetime.
class Inside {
 public:
  Inside() : nested_(inside) { inside = true; }
  ~Inside() { inside = nested_; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  const FlushScope flush_;
  const bool nested_;
};

// A call's share of num_threads(): at least the caller, plus as many helpers as the limit leaves.
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

// Each member first runs the task of its own number, so that repeated calls find their data in the same caches; the
// remaining tasks are scheduled dynamically.
struct Job {  // NOLINT(clang-analyzer-optin.performance.Padding)
  ptrdiff_t tasks;
  TaskFunction fn;
  void* context;
  alignas(64) std::atomic<ptrdiff_t> taken{0};  // its own cache line: the other fields are only read

  bool run(int member, int members) {
    const Inside scope;
    for (ptrdiff_t task = member; task < tasks; task = members + taken.fetch_add(1, std::memory_order_relaxed))
      fn(context, member, task);
    return true;
  }
};

// Consists of the caller and the helpers that arrive within kLateAfter; later ones are turned away.
struct Team {
  static constexpr int kClosed = 1 << 20;  // more than there are threads

  TeamFunction fn;
  void* context;
  std::atomic<int> arrived{0};  // helpers that arrived, plus kClosed once the team is fixed
  std::atomic<int> members{0};  // of the fixed team; 0 before

  bool run(int member, int invited) { return member == 0 ? lead(invited) : join(member, invited); }

  bool lead(int invited) {
    const long long late = steady_ns() + kLateAfter;
    while (arrived.load() < invited - 1 && (is_patient() || steady_ns() < late)) pause();
    const int all = 1 + arrived.fetch_add(kClosed);
    if (all < invited) book(0, kLateAfter);
    members.store(all, std::memory_order_release);
    const Inside scope;
    fn(context, 0, all);
    return true;
  }
  // Members are numbered as the helpers are if all arrived, else in order of arrival.
  bool join(int helper, int invited) {
    const int place = arrived.fetch_add(1) + 1;
    if (place > kClosed) return false;
    int all = 0;
    while ((all = members.load(std::memory_order_acquire)) == 0) pause();
    const Inside scope;
    fn(context, all == invited ? helper : place, all);
    return true;
  }
};

template <class Call>
void run_call(int threads, Call& call) {
  run_parts(
      threads, [](void* self, int member, int members) { return static_cast<Call*>(self)->run(member, members); },
      &call);
}

}  // namespace

void parallel_for(ptrdiff_t tasks, int threads, TaskFunction fn, void* context) {
  if (tasks <= 0) return;
  Job job = {tasks, fn, context, {0}};
  if (inside) return static_cast<void>(job.run(0, 1));
  const Claim claim(static_cast<int>(std::min<ptrdiff_t>(tasks, threads)));
  if (claim.threads() == 1) return static_cast<void>(job.run(0, 1));
  run_call(claim.threads(), job);
}

void parallel_team(int threads, TeamFunction fn, void* context) {
  const auto alone = [&] {
    const Inside scope;
    fn(context, 0, 1);
  };
  if (inside) return alone();
  const Claim claim(threads);
  if (claim.threads() == 1) return alone();
  Team team = {fn, context, {0}, {0}};
  run_call(claim.threads(), team);
}

}  // namespace recurra
