// Versions of weights that some threads read while others write: a call finds out whether it has seen one version of
// all that it read, and is made again where it has not. Readers take no lock.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "platform/fork.h"

namespace recurra {

constexpr uint64_t kNoCount = uint64_t(-1);  // which no version ever has

// A count that moves on with each write; odd while a thread is in the midst of writing.
class Version {
 public:
  uint64_t count() const { return count_.load(std::memory_order_acquire); }
  void move();
  // Whether nobody was writing when the count was `count`; this thread itself may, and one that a fork() has left
  // behind.
  bool is_readable(uint64_t count) const;

 private:
  friend class Writing;
  std::atomic<uint64_t> count_{0};
  Turn writer_;
};

// A change of all these that readers see whole or not at all. A thread's own changes may be nested; of others one goes
// on at a time. On the stack.
class Writing {
 public:
  explicit Writing(std::vector<Version*> versions);
  ~Writing();
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;

  // False: another thread is writing, or a reader of any of these holds writers off, and nothing has begun; try again
  // later. A thread that holds others off itself waits for no reader, so that two never wait for each other.
  bool begin();
  static bool by_this_thread(const Version&);

 private:
  std::vector<Version*> versions_;
  Writing* outer_ = nullptr;
  bool begun_ = false;
};

// While one lives, other threads' writers of `versions` that have not begun wait: for a reader whom they kept from an
// answer. Where users' code runs meanwhile, which may wait for such a writer, they do so until a time only. On the
// stack.
class HoldOff {
 public:
  typedef std::chrono::steady_clock Clock;

  explicit HoldOff(const std::vector<const Version*>& versions, Clock::time_point until = Clock::time_point::max());
  ~HoldOff();
  HoldOff(const HoldOff&) = delete;
  HoldOff& operator=(const HoldOff&) = delete;

  // Whether another thread, and this one is not, holds off writers of any of these, which are in order.
  static bool any_of_others(const std::vector<Version*>& sorted);

 private:
  const std::vector<const Version*>& versions_;
  const Clock::time_point until_;
};

// Whether its thread itself writes any of `versions` while it lives, as a layer of a user's may. On the stack.
class OwnWrites {
 public:
  explicit OwnWrites(const std::vector<const Version*>& versions);
  ~OwnWrites();
  OwnWrites(const OwnWrites&) = delete;
  OwnWrites& operator=(const OwnWrites&) = delete;

  bool any() const { return any_; }
  static void note(const Version*);

 private:
  const std::vector<const Version*>& versions_;
  OwnWrites* const outer_;
  bool any_ = false;
};

// Thrown by a call that others' writes came into: its results mean nothing, what they were made from is as it was.
struct WeightsMoved : std::runtime_error {
  WeightsMoved() : std::runtime_error("the weights were written during the call") {}
};

// The versions of several weights at one moment; counts: room for one each.
class Seen {
 public:
  Seen(const std::vector<const Version*>& versions, uint64_t* counts) : versions_(versions), counts_(counts) {}
  // Throws WeightsMoved while another thread is writing.
  void look();
  bool is_current() const {
    for (size_t i = 0; i < versions_.size(); ++i)
      if (versions_[i]->count() != counts_[i]) return false;
    return true;
  }
  // Throws WeightsMoved if they moved on.
  void check() const {
    if (!is_current()) throw WeightsMoved();
  }

 private:
  const std::vector<const Version*>& versions_;
  uint64_t* counts_;
};

bool are_readable(const std::vector<const Version*>& versions);

}  // namespace recurra
