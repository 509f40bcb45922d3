// Locks and fork(): a child has only the thread that forked, so a lock that another held would stay locked in it for
// ever.
#pragma once
#include <atomic>
#include <cstdint>

namespace recurra {

// While one lives on any thread, no fork() begins; a fork() under way is waited for. Taken before every lock that a
// call holds for a short time, so that a child finds all of them free and what they guard whole. May be nested. Nothing
// that takes Python's GIL or calls back into Python may run meanwhile: a thread that forks holds the GIL and waits
// here.
class NoFork {
 public:
  NoFork();
  ~NoFork();
  NoFork(const NoFork&) = delete;
  NoFork& operator=(const NoFork&) = delete;
};

// A lock that keeps forks away: ForkSafe<std::lock_guard<std::mutex>> lock(mutex).
template <class Lock>
class ForkSafe {
 public:
  template <class Mutex>
  explicit ForkSafe(Mutex& mutex) : lock_(mutex) {}

 private:
  NoFork gate_;
  Lock lock_;
};

// Marks an object as in use for as long as a call takes, which may be long: forks do not wait for it. Nobody waits for
// a turn either; whoever comes while another has it is turned away.
class Turn {
 public:
  // kAbandoned: a thread of the process that forked this one was at work on the object, which may be in any state. The
  // turn is taken all the same.
  enum Answer { kTaken, kInUse, kAbandoned };
  Answer take();
  void end() { user_.store(0, std::memory_order_release); }
  // What take() would answer kAbandoned to.
  bool abandoned() const;

 private:
  std::atomic<uint64_t> user_{0};  // process and thread; 0: nobody
};

}  // namespace recurra
