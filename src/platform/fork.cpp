#include "platform/fork.h"

#include <pthread.h>

namespace recurra {
namespace {

// Readers: NoFork. Writer: fork(), from before it to after it, in both processes.
pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;

void close_gate() { pthread_rwlock_wrlock(&gate); }
void open_gate() { pthread_rwlock_unlock(&gate); }
void renew_gate() { gate = PTHREAD_RWLOCK_INITIALIZER; }  // other threads' waiting for it was not inherited

const int registered = pthread_atfork(close_gate, open_gate, renew_gate);

}  // namespace

NoFork::NoFork() {
  static_cast<void>(registered);
  pthread_rwlock_rdlock(&gate);
}

NoFork::~NoFork() { pthread_rwlock_unlock(&gate); }

}  // namespace recurra
