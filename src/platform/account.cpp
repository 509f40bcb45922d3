#include "platform/account.h"

#include <algorithm>
#include <atomic>

#include "platform/clock.h"
#include "platform/parallel.h"

namespace recurra {
namespace {

// The balance is capped at kCredit, so that old gains do not hide new losses. Each serial period is four times as long
// as the last one, unless that long has passed without a new one.
constexpr long long kCredit = 4'000'000, kFirstPause = 4'000'000, kLongestPause = 500'000'000;  // ns

// Updated without a lock: a lost update does no harm.
std::atomic<long long> balance{0}, alone_until{0}, last_pause{0};
std::atomic<bool> patient{false};

}  // namespace

void book(long long gained, long long lost) {
  if (is_patient()) return;
  const long long sum = balance.load(std::memory_order_relaxed) + gained - lost;
  if (sum > -kLateAfter) return balance.store(std::min(sum, kCredit), std::memory_order_relaxed);
  balance.store(0, std::memory_order_relaxed);
  const long long now = steady_ns(), last = last_pause.load(std::memory_order_relaxed);
  const bool went_well = now - alone_until.load(std::memory_order_relaxed) > 4 * last;
  const long long next = went_well ? kFirstPause : std::min(4 * last, kLongestPause);
  last_pause.store(next, std::memory_order_relaxed);
  alone_until.store(now + next, std::memory_order_relaxed);
}

void forgive_losses() { alone_until.store(0); }

void note_waiting(long long ns) {
  if (ns > 0) book(0, ns);
}
bool stays_alone() { return steady_ns() < alone_until.load(std::memory_order_relaxed); }

void set_patient(bool on) {
  patient.store(on);
  forgive_losses();
}
bool is_patient() { return patient.load(std::memory_order_relaxed); }

}  // namespace recurra
