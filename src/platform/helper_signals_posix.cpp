#include <pthread.h>
#include <signal.h>

#include <initializer_list>

#include "platform/helper_signals.h"

namespace recurra {

struct HelperSignals::Mask {
  sigset_t before;
};

HelperSignals::HelperSignals() : mask_(new Mask) {
  pthread_sigmask(SIG_SETMASK, nullptr, &mask_->before);
  sigset_t blocked;
  sigfillset(&blocked);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF})
    if (!sigismember(&mask_->before, own)) sigdelset(&blocked, own);
  pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
}

HelperSignals::~HelperSignals() { pthread_sigmask(SIG_SETMASK, &mask_->before, nullptr); }

}  // namespace recurra
