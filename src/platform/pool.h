// The process's threads, which wait between calls: they spin for a moment, then sleep. What a call gives them is an
// offer; a thread that is late, because the processors have other work, finds that the caller has taken it back.
#pragma once

namespace recurra {

class Pool;
class Worker;

// The threads that help with one call, on the caller's stack. Nothing here is inherited by a forked child, whose first
// call starts threads of its own.
class Helpers {
 public:
  // As many as are free, started where there are too few; fewer than wanted where the system gives no more.
  explicit Helpers(int wanted) noexcept;
  ~Helpers();  // every part that was offered has been withdrawn or finished
  Helpers(const Helpers&) = delete;
  Helpers& operator=(const Helpers&) = delete;
  int count() const { return count_; }

  // Helper i, from 1 on, is to run part(context, i).
  typedef void (*Part)(void* context, int i);
  void offer(Part part, void* context);
  // Takes helper i's part back. False: it has begun, and must be finished.
  bool withdraw(int i);
  // For how long, in ns, helper i has not come to look at what it was offered, by this call and those before.
  long long absent(int i) const;
  // Waits until helper i's part is done, if it was not withdrawn. Returns for how long, in ns, its thread ran it, and
  // was kept from running while the caller waited (0 if the wait was too short to tell).
  struct Times {
    long long ran, kept;
  };
  Times finish(int i);

 private:
  Worker& helper(int i) const;

  Pool* const pool_;
  Worker* first_ = nullptr;  // and those after it, linked
  int count_ = 0;
};

}  // namespace recurra
