#include "platform/fork.h"

namespace recurra {
namespace {

constexpr int kThreadBits = 48;

uint64_t this_process() { return process_generation() << kThreadBits; }

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

Turn::Answer Turn::take() {
  const uint64_t user = this_process() | this_thread();
  uint64_t before = 0;
  if (user_.compare_exchange_strong(before, user, std::memory_order_acquire)) return kTaken;
  if (!left_behind(before)) return kInUse;
  return user_.compare_exchange_strong(before, user, std::memory_order_acquire) ? kAbandoned : kInUse;
}

bool Turn::abandoned() const { return left_behind(user_.load(std::memory_order_acquire)); }

}  // namespace recurra
