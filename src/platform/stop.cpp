#include <pthread.h>
#include <unistd.h>

#include "platform/clock.h"
#include "platform/eager_stop.h"
#include "platform/parallel.h"

namespace recurra {
namespace {

unsigned long this_thread() { return static_cast<unsigned long>(pthread_self()); }

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
  const pid_t process = getpid();
  // A child process forked by `ask` lacks the other threads of the call, so it must not wait for them.
  if (ask_(context_) || getpid() != process) __atomic_store_n(&requested_, true, __ATOMIC_RELAXED);
  next_ = steady_ns() + kAskEvery;  // from the end of `ask`, which may take any time
  return requested();
}

}  // namespace recurra
