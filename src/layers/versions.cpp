#include "layers/versions.h"

#include <algorithm>
#include <mutex>

namespace recurra {
namespace {

thread_local Writing* innermost = nullptr;
thread_local OwnWrites* noted = nullptr;
thread_local std::vector<const HoldOff*> own_holds;
std::atomic<size_t> hold_count{0};  // lets writers skip the lock if there are none
std::mutex holds_mutex;
std::vector<const HoldOff*> holds;

// A child process only has the thread that forked.
const int registered = at_fork(nullptr, nullptr, [] {
  holds = own_holds;
  hold_count.store(holds.size());
});

}  // namespace

void Version::move() {
  count_.fetch_add(2, std::memory_order_acq_rel);
  OwnWrites::note(this);
}

bool Version::is_readable(uint64_t count) const {
  return count % 2 == 0 || Writing::by_this_thread(*this) || writer_.abandoned();
}

Writing::Writing(std::vector<Version*> versions) : versions_(std::move(versions)) {
  std::sort(versions_.begin(), versions_.end());  // the same order in all threads avoids deadlocks
  versions_.erase(std::unique(versions_.begin(), versions_.end()), versions_.end());
  const auto own = [](const Version* one) { return by_this_thread(*one); };
  versions_.erase(std::remove_if(versions_.begin(), versions_.end(), own), versions_.end());
}

bool Writing::by_this_thread(const Version& version) {
  for (const Writing* one = innermost; one; one = one->outer_)
    if (std::binary_search(one->versions_.begin(), one->versions_.end(), &version)) return true;
  return false;
}

bool Writing::begin() {
  const NoFork whole;
  // A nested change must not wait, as the reader may be waiting for the outer one.
  if (!innermost && HoldOff::any_of_others(versions_)) return false;
  for (size_t i = 0; i < versions_.size(); ++i) {
    const Turn::Answer answer = versions_[i]->writer_.take();
    if (answer == Turn::kInUse) {
      for (size_t k = 0; k < i; ++k) versions_[k]->writer_.end();
      return false;
    }
    if (versions_[i]->count() % 2 == 1) versions_[i]->count_.fetch_add(1);  // its writer was lost in a fork()
  }
  for (Version* one : versions_) {
    one->count_.fetch_add(1);
    OwnWrites::note(one);
  }
  outer_ = innermost;
  innermost = this;
  begun_ = true;
  return true;
}

Writing::~Writing() {
  if (!begun_) return;
  const NoFork whole;
  innermost = outer_;
  for (Version* one : versions_) one->count_.fetch_add(1);
  for (Version* one : versions_) one->writer_.end();
}

HoldOff::HoldOff(const std::vector<const Version*>& versions, Clock::time_point until)
    : versions_(versions), until_(until) {
  const ForkSafe<std::lock_guard<std::mutex>> lock(holds_mutex);
  own_holds.push_back(this);
  holds.push_back(this);
  hold_count.store(holds.size());
}

HoldOff::~HoldOff() {
  const ForkSafe<std::lock_guard<std::mutex>> lock(holds_mutex);
  own_holds.pop_back();
  holds.erase(std::find(holds.begin(), holds.end(), this));
  hold_count.store(holds.size());
}

bool HoldOff::any_of_others(const std::vector<Version*>& sorted) {
  if (hold_count.load() == 0 || !own_holds.empty()) return false;
  const ForkSafe<std::lock_guard<std::mutex>> lock(holds_mutex);
  const Clock::time_point now = Clock::now();
  const auto written = [&](const Version* one) { return std::binary_search(sorted.begin(), sorted.end(), one); };
  return std::any_of(holds.begin(), holds.end(), [&](const HoldOff* hold) {
    return now < hold->until_ && std::any_of(hold->versions_.begin(), hold->versions_.end(), written);
  });
}

OwnWrites::OwnWrites(const std::vector<const Version*>& versions) : versions_(versions), outer_(noted) { noted = this; }

OwnWrites::~OwnWrites() { noted = outer_; }

void OwnWrites::note(const Version* version) {
  for (OwnWrites* one = noted; one; one = one->outer_)
    one->any_ = one->any_ || std::find(one->versions_.begin(), one->versions_.end(), version) != one->versions_.end();
}

void Seen::look() {
  for (size_t i = 0; i < versions_.size(); ++i) {
    counts_[i] = versions_[i]->count();
    if (versions_[i]->is_readable(counts_[i])) continue;
    counts_[i] = kNoCount;
    throw WeightsMoved();
  }
  check();  // all counts are of one moment
}

bool are_readable(const std::vector<const Version*>& versions) {
  return std::all_of(versions.begin(), versions.end(),
                     [](const Version* one) { return one->is_readable(one->count()); });
}

}  // namespace recurra
