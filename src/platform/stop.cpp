#include "platform/clock.h"
#include "platform/eager_stop.h"
#include "platform/fork.h"
#include "platform/parallel.h"

namespace recurra {
namespace {

// An address that no other living thread has, and the thread that forks keeps.
const void* this_thread() {
  static thread_local char mark = 0;
  return &mark;
}

constexpr long long kAskEvery = 50'000'000;  // ns

bool eager = false;

}  // namespace

void set_eager_stops(bool is_eager) { __atomic_store_n(&eager, is_eager, __ATOMIC_RELAXED); }
bool are_stops_eager() { return __atomic_load_n(&eager, __ATOMIC_RELAXED); }

Stop::Stop(Function ask, void* context)
    : ask_(ask), context_(context), owner_(this_thread()), next_(steady_ns() + kAskEvery), requested_(false) {}

bool Stop::poll() {
  if (requested()) return true;
  if (ask_ == nullptr || this_thread() != owner_) return false;
  const long long now = steady_ns();
  if (now < next_ && !are_stops_eager()) return false;
  const uint64_t process = process_generation();
  // A child process forked by `ask` lacks the other threads of the call, so it must not wait for them.
  if (ask_(context_) || process_generation() != process) __atomic_store_n(&requested_, true, __ATOMIC_RELAXED);
  next_ = steady_ns() + kAskEvery;  // from the end of `ask`, which may take any time
  return requested();
}

}  // namespace recurra
