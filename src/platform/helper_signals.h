#pragma once
#include <signal.h>

namespace recurra {

// While one lives, threads that its thread starts have the signal mask of a helper. Signals are the business of the
// threads that were there before, except those that concern the thread that they hit: a fault that is blocked ends the
// process without its handler (Python's faulthandler), and a profiler samples all threads.
class HelperSignals {
 public:
  HelperSignals();
  ~HelperSignals();
  HelperSignals(const HelperSignals&) = delete;
  HelperSignals& operator=(const HelperSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace recurra
