#include <pthread.h>

#include "platform/fork.h"

namespace recurra {
namespace {

// NoFork locks it for reading; fork() for writing, until it has returned in both processes.
pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;
thread_local int depth = 0;  // nesting of this thread's NoForks

std::atomic<uint64_t> generation{1};

void close_gate() { pthread_rwlock_wrlock(&gate); }
void open_gate() { pthread_rwlock_unlock(&gate); }
void renew_in_child() {
  gate = PTHREAD_RWLOCK_INITIALIZER;  // the parent's waiting threads do not exist here
  generation.fetch_add(1);
}

const int registered = at_fork(close_gate, open_gate, renew_in_child);

}  // namespace

int at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) {
  return pthread_atfork(before, in_parent, in_child);
}

uint64_t process_generation() { return generation.load(std::memory_order_relaxed); }

NoFork::NoFork() {
  static_cast<void>(registered);
  if (depth++ == 0) pthread_rwlock_rdlock(&gate);
}

NoFork::~NoFork() {
  if (--depth == 0) pthread_rwlock_unlock(&gate);
}

}  // namespace recurra
