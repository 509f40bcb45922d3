// Versions of weights that some threads read while others write: a call checks whether all that it read was of one
// version, and is repeated if not. Readers take no lock.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "platform/fork.h"

namespace recurra {

constexpr uint64_t kNoCount = uint64_t(-1);  // never a version's count

// A counter of writes; odd while a thread is writing.
class Version {
 public:
  uint64_t count() const { return count_.load(std::memory_order_acquire); }
  void move();
  // Whether no other thread was writing when the count was `count`; one lost in a fork() does not matter.
  bool is_readable(uint64_t count) const;

 private:
  friend class Writing;
  std::atomic<uint64_t> count_{0};
  Turn writer_;
};

// A change of several weights that readers see atomically. A thread may nest its changes; different threads' changes of
// the same weights exclude each other. Lives on the stack.
class Writing {
 public:
  explicit Writing(std::vector<Version*> versions);
  ~Writing();
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;

  // False if another thread is writing or a reader of any of these holds writers off; nothing has begun then, try again
  // later. A thread that itself holds writers off waits for no reader, so that two never wait for each other.
  bool begin();
  static bool by_this_thread(const Version&);

 private:
  std::vector<Version*> versions_;
  Writing* outer_ = nullptr;
  bool begun_ = false;
};

// While it lives, other threads' writers of `versions` that have not begun must wait, for a reader that writers kept
// from finishing. If users' code runs meanwhile, which may itself wait for such a writer, then only until a time. Lives
// on the stack.
class HoldOff {
 public:
  typedef std::chrono::steady_clock Clock;

  explicit HoldOff(const std::vector<const Version*>& versions, Clock::time_point until = Clock::time_point::max());
  ~HoldOff();
  HoldOff(const HoldOff&) = delete;
  HoldOff& operator=(const HoldOff&) = delete;

  // Whether another thread holds off writers of any of these, and this thread holds off none.
  static bool any_of_others(const std::vector<Version*>& sorted);

 private:
  const std::vector<const Version*>& versions_;
  const Clock::time_point until_;
};

// Records whether its own thread writes any of `versions` while it lives, as a user's layer may. Lives on the stack.
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

// Thrown by a call during which others wrote weights: its results are invalid, its inputs are unchanged.
struct WeightsMoved : std::runtime_error {
  WeightsMoved() : std::runtime_error("the weights were written during the call") {}
};

// A snapshot of several versions; `counts` has room for one count each.
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
  // Throws WeightsMoved if the versions have changed since look().
  void check() const {
    if (!is_current()) throw WeightsMoved();
  }

 private:
  const std::vector<const Version*>& versions_;
  uint64_t* counts_;
};

bool are_readable(const std::vector<const Version*>& versions);

}  // namespace recurra
