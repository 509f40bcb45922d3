#include "layers/versions.h"

#include <pthread.h>

#include <algorithm>

namespace recurra {
namespace {

thread_local Writing* innermost = nullptr;
thread_local int own_holds = 0;
thread_local uint64_t own_writes = 0;
std::atomic<int> holds{0};

// A child has no thread but the one that forked.
const int at_fork = pthread_atfork(nullptr, nullptr, [] { holds.store(own_holds); });

}  // namespace

bool Version::is_readable(uint64_t count) const {
  return count % 2 == 0 || Writing::by_this_thread(*this) || writer_.abandoned();
}

Writing::Writing(std::vector<Version*> versions) : versions_(std::move(versions)) {
  std::sort(versions_.begin(), versions_.end());  // two threads that begin at once never wait for each other in turn
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
  // Nested, it must not wait: the reader may be waiting for the change around it.
  if (!innermost && holds.load() > own_holds) return false;
  for (size_t i = 0; i < versions_.size(); ++i) {
    const Turn::Answer answer = versions_[i]->writer_.take();
    if (answer == Turn::kInUse) {
      for (size_t k = 0; k < i; ++k) versions_[k]->writer_.end();
      return false;
    }
    if (versions_[i]->count() % 2 == 1) versions_[i]->count_.fetch_add(1);  // a thread that a fork() has left behind
  }
  for (Version* one : versions_) one->count_.fetch_add(1);
  outer_ = innermost;
  innermost = this;
  begun_ = true;
  ++own_writes;
  return true;
}

Writing::~Writing() {
  if (!begun_) return;
  const NoFork whole;
  innermost = outer_;
  for (Version* one : versions_) one->count_.fetch_add(1);
  for (Version* one : versions_) one->writer_.end();
}

HoldOff::HoldOff() {
  ++own_holds;
  ++holds;
}

HoldOff::~HoldOff() {
  --own_holds;
  --holds;
}

void Seen::look() {
  own_writes_ = own_writes;
  for (size_t i = 0; i < versions_.size(); ++i) {
    counts_[i] = versions_[i]->count();
    if (versions_[i]->is_readable(counts_[i])) continue;
    counts_[i] = kNoCount;
    throw WeightsMoved();
  }
  check();  // that they are of one moment
}

void Seen::refuse() const {
  if (own_writes_ == own_writes) throw WeightsMoved();
}

bool are_readable(const std::vector<const Version*>& versions) {
  return std::all_of(versions.begin(), versions.end(),
                     [](const Version* one) { return one->is_readable(one->count()); });
}

}  // namespace recurra
