// A thread of the pool. Between calls it spins briefly, then sleeps.
#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "platform/placement.h"
#include "platform/thread_clock.h"
#include "platform/threads.h"

namespace recurra {

// The claimer and the thread hand control to each other through `state_`.
class Worker {
 public:
  Worker();  // throws std::system_error or std::bad_alloc where the system gives no thread

  bool claim();
  void release();

  // Asks the thread to run part(context, member, members).
  void offer(Part part, void* context, int member, int members);
  // Takes an offered part back. Returns false if it has started; then finish() is required.
  bool withdraw();
  // For how long, in ns, the thread has not responded to offers of this call and earlier ones.
  long long absent() const;
  // Waits for the end of a part that was not withdrawn, and books its gain and loss.
  void finish();

  Worker* next = nullptr;  // in the list of its claimer's workers

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
  std::atomic<long long> asked_{0};  // time of the first offer it has not responded to; 0 if none
  ThreadClock clock_;
  long long began_ = 0, began_cpu_ = 0, ended_ = 0;
};

}  // namespace recurra
