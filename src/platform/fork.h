// Locks and fork(): a child has only the thread that forked, so a lock that another held would stay locked in it for
// ever.
#pragma once

namespace recurra {

// While one lives on any thread, no fork() begins; a fork() under way is waited for. Taken before every lock that a
// call holds for a short time, so that a child finds all of them free and what they guard whole. Must not be nested.
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

}  // namespace recurra
