#include <pthread.h>
#include <signal.h>

#include <cstring>
#include <initializer_list>

#include "platform/helper_signals.h"

namespace recurra {

HelperSignals::HelperSignals() {
  sigset_t before;
  static_assert(sizeof before <= sizeof mask_);
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  std::memcpy(mask_, &before, sizeof before);
  sigset_t blocked;
  sigfillset(&blocked);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF})
    if (!sigismember(&before, own)) sigdelset(&blocked, own);
  pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
}

HelperSignals::~HelperSignals() {
  sigset_t before;
  std::memcpy(&before, mask_, sizeof before);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace recurra
