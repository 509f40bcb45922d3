// Which processors a thread may run on.
#pragma once
#include <memory>
#include <thread>

namespace recurra {

// The number of processors that this process may use; 0 if unknown.
int usable_processors();

// Controls where a sleeping thread wakes up. Linux, in virtual machines above all, often wakes a thread on its waker's
// processor although others are idle, and there it waits as long as the waker spins. So the waker excludes its own
// processor from the thread's affinity mask until the thread runs; no effect where the system forbids or lacks that.
// All functions but of() are called under the thread's mutex, so that the narrowed mask is never saved as the allowed
// one.
class Placement {
 public:
  Placement();
  ~Placement();
  Placement(const Placement&) = delete;
  Placement& operator=(const Placement&) = delete;

  void of(std::thread& thread);
  // Called by the waker, to keep its processor free, while the thread sleeps.
  void keep_off_mine();
  // Called by the thread once it runs.
  void widen();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace recurra
