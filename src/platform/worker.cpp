#include "platform/worker.h"

#include <algorithm>
#include <thread>

#include "platform/account.h"
#include "platform/clock.h"
#include "platform/helper_signals.h"
#include "platform/pause.h"

namespace recurra {
namespace {

constexpr long long kSpin = 100'000;  // ns that an idle thread spins before it sleeps

}  // namespace

Worker::Worker() {
  const HelperSignals signals;
  std::thread thread([this] { run(); });
  clock_.of(thread);
  placement_.of(thread);
  thread.detach();
}

bool Worker::claim() {
  int idle = kIdle;
  return state_.compare_exchange_strong(idle, kClaimed);
}
void Worker::release() { state_.store(kIdle); }

void Worker::offer(Part part, void* context, int member, int members) {
  part_ = part;
  context_ = context;
  member_ = member;
  members_ = members;
  if (asked_.load() == 0) asked_.store(steady_ns());
  set(kOffered);
}

bool Worker::withdraw() {
  int offered = kOffered;
  return state_.compare_exchange_strong(offered, kClaimed);
}

long long Worker::absent() const {
  const long long asked = asked_.load();
  return asked ? steady_ns() - asked : 0;
}

void Worker::finish() {
  if (state_.load() == kClaimed) return;
  const bool soon = spin_until(kDone, kLongWait);
  while (state_.load() != kDone) {
    std::unique_lock<std::mutex> lock(mutex_);
    sleep_unless(kDone, lock);
  }
  if (soon) {
    book(ended_ - began_, 0);
  } else {
    const long long ran = clock_.ns() - began_cpu_;
    book(ran, std::max(0LL, steady_ns() - began_ - ran));
  }
  state_.store(kClaimed);
}

void Worker::run() {
  for (;;) {
    if (!spin_until(kOffered, kSpin)) {
      asked_.store(0);
      std::unique_lock<std::mutex> lock(mutex_);
      sleep_unless(kOffered, lock);
      placement_.widen();
    }
    asked_.store(0);
    int offered = kOffered;
    if (!state_.compare_exchange_strong(offered, kBusy)) continue;  // not offered yet, or withdrawn
    began_ = steady_ns();
    began_cpu_ = own_cpu_ns();
    part_(context_, member_, members_);
    ended_ = steady_ns();
    set(kDone);
  }
}

void Worker::set(State state) {
  state_.store(state);
  if (sleeping_.load() == 0) return;
  {
    // A thread about to sleep is asleep once this has the mutex, and gets the notification.
    const std::lock_guard<std::mutex> lock(mutex_);
    if (state == kOffered && sleeping_.load() > 0) placement_.keep_off_mine();
  }
  changed_.notify_all();
}

bool Worker::spin_until(State state, long long ns) const {
  const long long end = steady_ns() + ns;
  for (unsigned spins = 0; state_.load() != state; ++spins) {
    if (spins % 32 == 31 && steady_ns() > end) return false;
    pause();
  }
  return true;
}

void Worker::sleep_unless(State state, std::unique_lock<std::mutex>& lock) {
  sleeping_.fetch_add(1);
  if (state_.load() != state) changed_.wait(lock);
  sleeping_.fetch_sub(1);
}

}  // namespace recurra
