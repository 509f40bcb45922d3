#pragma once

namespace recurra {

// Threads started during its lifetime inherit the signal mask of a helper thread: all signals are blocked, so that the
// application's own threads handle them, except synchronous ones and SIGPROF. A blocked fault would end the process
// without its handler (Python's faulthandler), and a profiler samples all threads.
class HelperSignals {
 public:
  HelperSignals();
  ~HelperSignals();
  HelperSignals(const HelperSignals&) = delete;
  HelperSignals& operator=(const HelperSignals&) = delete;

 private:
  alignas(long) char mask_[128];  // the caller's, to be restored: a sigset_t
};

}  // namespace recurra
