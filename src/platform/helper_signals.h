#pragma once
#include <memory>

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
  struct Mask;  // the caller's, to be restored
  const std::unique_ptr<Mask> mask_;
};

}  // namespace recurra
