// One thread of the pool. It spins for a moment between calls, then sleeps.
#pragma once
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "platform/threads.h"

namespace recurra {

// Where a thread wakes up. Linux often puts one that is woken on its waker's processor although others are idle, in
// virtual machines above all, and there it waits for as long as the waker spins. So a waker keeps it off its own
// processor until it is awake. Where the system does not allow that, nothing happens. Both are done under the thread's
// lock: else the narrowed mask could be read as the allowed one.
class Placement {
 public:
  void of(pthread_t thread) { thread_ = thread; }
  // By the waker, while the thread sleeps.
  void keep_off(int cpu);
  // By the thread, awake.
  void widen();

 private:
  pthread_t thread_ = {};
  cpu_set_t allowed_ = {};  // before it was narrowed
  bool narrowed_ = false;
};

// Whoever has claimed the thread, and the thread itself, take turns by its state.
class Worker {
 public:
  Worker();  // throws std::system_error or std::bad_alloc where the system gives no thread

  bool claim();
  void release();

  // The thread is to run part(context, member, members).
  void offer(Part part, void* context, int member, int members);
  // Takes the part back. False: it has begun, and must be finished.
  bool withdraw();
  // For how long, in ns, the thread has not come to look at what it was offered, by this call and those before.
  long long absent() const;
  // Waits until the part has ended, if it was not withdrawn, and books what it brought.
  void finish();

  Worker* next = nullptr;  // of those with the same claimer

 private:
  enum State { kIdle, kClaimed, kOffered, kBusy, kDone };

  void run();
  void set(State state);
  bool spin_until(State state, long long ns) const;
  void sleep_unless(State state, std::unique_lock<std::mutex>& lock);

  Placement placement_;
  alignas(64) std::atomic<int> state_{kIdle};
  std::atomic<int> sleeping_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  Part part_ = nullptr;
  void* context_ = nullptr;
  int member_ = 0, members_ = 0;
  std::atomic<long long> asked_{0};  // when it was first asked since it last looked; 0: not since then
  clockid_t clock_{};
  long long began_ = 0, began_cpu_ = 0, ended_ = 0;
};

}  // namespace recurra
