#include "platform/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "platform/clock.h"
#include "platform/parallel.h"
#include "platform/pause.h"

namespace recurra {
namespace {

constexpr long long kSpin = 100'000;      // ns that a thread looks for work, or its caller for the end of it, awake
constexpr long long kLongWait = 100'000;  // ns after which a caller looks at what its helper did meanwhile

long long cpu_ns(clockid_t clock) {
  timespec time = {};
  clock_gettime(clock, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

// Where a thread wakes up. Linux often puts one that is woken on its waker's processor although others are idle, in
// virtual machines above all, and there it waits for as long as the waker spins. So a waker keeps it off its own
// processor until it is awake. Where the system does not allow that, nothing happens. Both are done under the thread's
// lock: else the narrowed mask could be read as the allowed one.
class Placement {
 public:
  void of(pthread_t thread) { thread_ = thread; }
  // By the waker, while the thread sleeps.
  void keep_off(int cpu) {
    if (narrowed_ || cpu < 0 || cpu >= CPU_SETSIZE) return;
    if (pthread_getaffinity_np(thread_, sizeof allowed_, &allowed_)) return;
    cpu_set_t others = allowed_;
    CPU_CLR(cpu, &others);
    narrowed_ = CPU_COUNT(&others) > 0 && pthread_setaffinity_np(thread_, sizeof others, &others) == 0;
  }
  // By the thread, awake.
  void widen() {
    if (narrowed_) pthread_setaffinity_np(thread_, sizeof allowed_, &allowed_);
    narrowed_ = false;
  }

 private:
  pthread_t thread_ = {};
  cpu_set_t allowed_ = {};  // before it was narrowed
  bool narrowed_ = false;
};

// The mask of a helper, started by a thread with the mask `before`: signals are the business of the threads that were
// there before, except those that concern the thread that they hit. A fault that is blocked ends the process without
// its handler (Python's faulthandler), and a profiler samples all threads.
sigset_t helper_signals(const sigset_t& before) {
  sigset_t blocked;
  sigfillset(&blocked);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF})
    if (!sigismember(&before, own)) sigdelset(&blocked, own);
  return blocked;
}

}  // namespace

// One thread. Whoever has claimed it, and the thread itself, take turns by its state.
class Worker {
 public:
  Worker() {
    sigset_t before;
    pthread_sigmask(SIG_SETMASK, nullptr, &before);
    const sigset_t blocked = helper_signals(before);
    pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
    try {
      std::thread thread([this] { run(); });
      pthread_getcpuclockid(thread.native_handle(), &clock_);
      placement_.of(thread.native_handle());
      thread.detach();
    } catch (...) {
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  bool claim() {
    int idle = kIdle;
    return state_.compare_exchange_strong(idle, kClaimed);
  }
  void offer(Helpers::Part part, void* context, int number) {
    part_ = part;
    context_ = context;
    number_ = number;
    if (asked_.load() == 0) asked_.store(steady_ns());
    set(kOffered);
  }
  bool withdraw() {
    int offered = kOffered;
    return state_.compare_exchange_strong(offered, kClaimed);
  }
  long long absent() const {
    const long long asked = asked_.load();
    return asked ? steady_ns() - asked : 0;
  }
  void release() { state_.store(kIdle); }
  Helpers::Times finish() {
    if (state_.load() == kClaimed) return {0, 0};
    const bool soon = spin_until(kDone, kLongWait);
    while (state_.load() != kDone) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleep_unless(kDone, lock);
    }
    Helpers::Times times = {ended_ - began_, 0};
    if (!soon) {
      times.ran = cpu_ns(clock_) - began_cpu_;
      times.kept = std::max(0LL, steady_ns() - began_ - times.ran);
    }
    state_.store(kClaimed);
    return times;
  }

  Worker* next = nullptr;  // of those with the same claimer

 private:
  enum State { kIdle, kClaimed, kOffered, kBusy, kDone };

  void run() {
    for (;;) {
      if (!spin_until(kOffered, kSpin)) {
        asked_.store(0);
        std::unique_lock<std::mutex> lock(mutex_);
        sleep_unless(kOffered, lock);
        placement_.widen();
      }
      asked_.store(0);
      int offered = kOffered;
      if (!state_.compare_exchange_strong(offered, kBusy)) continue;  // none yet, or withdrawn
      began_ = steady_ns();
      began_cpu_ = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
      part_(context_, number_);
      ended_ = steady_ns();
      set(kDone);
    }
  }

  void set(State state) {
    state_.store(state);
    if (sleeping_.load() == 0) return;
    {
      const std::lock_guard<std::mutex> lock(mutex_);  // who was about to sleep does so, and hears it
      if (state == kOffered && sleeping_.load() > 0) placement_.keep_off(sched_getcpu());
    }
    changed_.notify_all();
  }
  bool spin_until(State state, long long ns) const {
    const long long end = steady_ns() + ns;
    for (unsigned spins = 0; state_.load() != state; ++spins) {
      if (spins % 32 == 31 && steady_ns() > end) return false;
      pause();
    }
    return true;
  }
  void sleep_unless(State state, std::unique_lock<std::mutex>& lock) {
    sleeping_.fetch_add(1);
    if (state_.load() != state) changed_.wait(lock);
    sleeping_.fetch_sub(1);
  }

  Placement placement_;
  alignas(64) std::atomic<int> state_{kIdle};
  std::atomic<int> sleeping_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  Helpers::Part part_ = nullptr;
  void* context_ = nullptr;
  int number_ = 0;
  std::atomic<long long> asked_{0};  // when it was first asked since it last looked; 0: not since then
  clockid_t clock_{};
  long long began_ = 0, began_cpu_ = 0, ended_ = 0;
};

// All threads of a process, never given back: at its end they may be inside a call.
class Pool {
 public:
  // Null where there is no memory for it.
  static Pool* instance() {
    Pool* pool = current.load(std::memory_order_acquire);
    if (pool) return pool;
    auto* made = new (std::nothrow) Pool;
    if (!made || current.compare_exchange_strong(pool, made)) return made;
    delete made;
    return pool;
  }

  Worker* claim(size_t& from) {
    for (; from < workers_.size(); ++from) {
      Worker* worker = workers_[from].load(std::memory_order_acquire);
      if (!worker) worker = grow(from);
      if (!worker) return nullptr;
      if (worker->claim()) return ++from, worker;
    }
    return nullptr;
  }

  static std::atomic<Pool*> current;

 private:
  Worker* grow(size_t i) {
    const std::lock_guard<std::mutex> lock(growing_);
    if (Worker* worker = workers_[i].load()) return worker;
    try {
      workers_[i].store(new Worker, std::memory_order_release);
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
    return workers_[i].load();
  }

  std::array<std::atomic<Worker*>, kMostThreads> workers_{};
  std::mutex growing_;
};

std::atomic<Pool*> Pool::current{nullptr};

namespace {

// A forked child has none of the threads, and a lock of theirs may be held for ever.
const int registered = pthread_atfork(nullptr, nullptr, [] { Pool::current.store(nullptr); });

}  // namespace

Helpers::Helpers(int wanted) noexcept : pool_(wanted > 0 ? Pool::instance() : nullptr) {
  static_cast<void>(registered);
  Worker* last = nullptr;
  for (size_t from = 0; pool_ && count_ < wanted; ++count_) {
    Worker* worker = pool_->claim(from);
    if (!worker) return;
    worker->next = nullptr;
    (last ? last->next : first_) = worker;
    last = worker;
  }
}

Helpers::~Helpers() {
  for (Worker* worker = first_; worker;) {
    Worker* const next = worker->next;
    worker->release();
    worker = next;
  }
}

Worker& Helpers::helper(int i) const {
  Worker* worker = first_;
  while (--i > 0) worker = worker->next;
  return *worker;
}

void Helpers::offer(Part part, void* context) {
  int i = 0;
  for (Worker* worker = first_; worker; worker = worker->next) worker->offer(part, context, ++i);
}
bool Helpers::withdraw(int i) { return helper(i).withdraw(); }
long long Helpers::absent(int i) const { return helper(i).absent(); }
Helpers::Times Helpers::finish(int i) {
  if (Pool::current.load() != pool_) return {0, 0};  // a child, forked from inside the call: its helpers are not here
  return helper(i).finish();
}

}  // namespace recurra
