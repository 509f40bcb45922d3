#include "platform/fork.h"

#include <pthread.h>

namespace recurra {
namespace {

// NoFork locks it for reading; fork() for writing, until it has returned in both processes.
pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;
thread_local int depth = 0;  // nesting of this thread's NoForks

// 1 in the first process, and one more in each child.
std::atomic<uint64_t> generation{1};

void close_gate() { pthread_rwlock_wrlock(&gate); }
void open_gate() { pthread_rwlock_unlock(&gate); }
void renew_in_child() {
  gate = PTHREAD_RWLOCK_INITIALIZER;  // the parent's waiting threads do not exist here
  generation.fetch_add(1);
}

const int registered = pthread_atfork(close_gate, open_gate, renew_in_child);

constexpr int kThreadBits = 48;

uint64_t this_process() { return generation.load(std::memory_order_relaxed) << kThreadBits; }

// Never reused, unlike addresses: a child's new thread may have the address of one of its parent's.
uint64_t this_thread() {
  static std::atomic<uint64_t> threads{0};
  thread_local uint64_t number = 0;
  if (number == 0) number = threads.fetch_add(1, std::memory_order_relaxed) + 1;
  return number;
}

// The thread that forked during a call returns to that call in the child, so its own turns are not left behind.
bool left_behind(uint64_t user) {
  const uint64_t thread = user & ((uint64_t{1} << kThreadBits) - 1);
  return user != 0 && user - thread != this_process() && thread != this_thread();
}

}  // namespace

NoFork::NoFork() {
  static_cast<void>(registered);
  if (depth++ == 0) pthread_rwlock_rdlock(&gate);
}

NoFork::~NoFork() {
  if (--depth == 0) pthread_rwlock_unlock(&gate);
}

Turn::Answer Turn::take() {
  const uint64_t user = this_process() | this_thread();
  uint64_t before = 0;
  if (user_.compare_exchange_strong(before, user, std::memory_order_acquire)) return kTaken;
  if (!left_behind(before)) return kInUse;
  return user_.compare_exchange_strong(before, user, std::memory_order_acquire) ? kAbandoned : kInUse;
}

bool Turn::abandoned() const { return left_behind(user_.load(std::memory_order_acquire)); }

}  // namespace recurra
