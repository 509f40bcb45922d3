#include "platform/helper_signals.h"

#include <pthread.h>

#include <initializer_list>

namespace recurra {

HelperSignals::HelperSignals() {
  pthread_sigmask(SIG_SETMASK, nullptr, &before_);
  sigset_t blocked;
  sigfillset(&blocked);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF})
    if (!sigismember(&before_, own)) sigdelset(&blocked, own);
  pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
}

HelperSignals::~HelperSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace recurra
