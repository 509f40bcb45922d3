// Locks and fork(): a child has only the thread that forked, so a lock held by another thread would stay locked in it
// forever.
#pragma once
#include <atomic>
#include <cstdint>

namespace recurra {

// pthread_atfork(), and nothing on systems without fork().
int at_fork(void (*before)(), void (*in_parent)(), void (*in_child)());

// 1 in the first process, and one more in each child.
uint64_t process_generation();

// Blocks fork() on all threads during its lifetime; the constructor waits for a fork() in progress. Taken before every
// lock that a call holds for a short time, so that a child finds these locks free and the data they guard consistent.
// May be nested. Code in its scope must not take Python's GIL or call into Python: a thread that forks holds the GIL
// while it waits here.
class NoFork {
 public:
  NoFork();
  ~NoFork();
  NoFork(const NoFork&) = delete;
  NoFork& operator=(const NoFork&) = delete;
};

// A lock that also blocks fork(): ForkSafe<std::lock_guard<std::mutex>> lock(mutex).
template <class Lock>
class ForkSafe {
 public:
  template <class Mutex>
  explicit ForkSafe(Mutex& mutex) : lock_(mutex) {}

 private:
  NoFork gate_;
  Lock lock_;
};

// Marks an object as in use during a call. Calls may be long, so fork() does not wait for it. It never blocks either:
// take() fails while another thread has the turn.
class Turn {
 public:
  // kAbandoned: the turn is taken, but a thread of the parent process was using the object when this process was
  // forked, so the object may be in any state.
  enum Answer { kTaken, kInUse, kAbandoned };
  Answer take();
  void end() { user_.store(0, std::memory_order_release); }
  // True if take() would return kAbandoned.
  bool abandoned() const;

 private:
  std::atomic<uint64_t> user_{0};  // process and thread; 0 if free
};

}  // namespace recurra
