// The state of a stream's rows, and changes of it: of all rows, or of some that the caller lists.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "device/moves.h"

namespace recurra {

// Rows of a stream by number, in any order; by default all of them.
struct RowList {
  const int64_t* rows = nullptr;
  ptrdiff_t count = -1;
  bool all() const { return count < 0; }
};

// Throws std::invalid_argument for a row that a stream of `rows` rows does not have; `what`: the argument.
void check_range(const RowList&, ptrdiff_t rows, const char* name, const char* what);
// The same for one that is listed twice. `marks`: one for each row of the stream, 0 before and after; made if empty.
void check_repeats(const RowList&, ptrdiff_t rows, const char* name, const char* what, std::vector<uint8_t>& marks);

// A change reads the rows' old state and writes their new one elsewhere; commit() puts that in its place, and until the
// next change, undo() takes it back. A change of all rows swaps two blocks. One of some rows works on copies of theirs,
// side by side, and moves nothing of the others; as long as no change is of all rows, there is only one block.
template <class T>
class StreamState {
 public:
  struct Change {
    StateRows<const T> from;
    StateRows<T> to;
  };

  StreamState(const Devices&, ptrdiff_t rows, ptrdiff_t size);  // zeros

  StateRows<const T> rows() const { return read_only(blocks_[current_]); }
  const T* data() const { return blocks_[current_].data; }
  T* initial() { return blocks_[current_].data; }  // to be written before the first change

  // The rows of the list must be different ones.
  Change begin(const RowList& list) {
    changed_ = kNothing;
    if (!list.all()) return begin_some(list);
    if (!blocks_[1 - current_].data) take_block(blocks_[1 - current_]);
    return {rows(), blocks_[1 - current_]};
  }
  void commit(const RowList& list) {
    if (!list.all()) return commit_some();
    current_ = 1 - current_;
    changed_ = kAll;
  }
  void undo();
  std::vector<uint8_t>& marks() { return some().marks; }  // for check_repeats()

  // In a process forked while another thread was changing the state: makes it what it was before that change. What that
  // thread was working with may be in any condition and is left behind.
  void recover();
  void abandon() { static_cast<void>(some_.release()); }

 private:
  // The rows that a change of some is about.
  struct Some {
    explicit Some(const Devices& devices) : memory(devices.memory) {}
    Arena memory;
    ptrdiff_t most = 0;
    std::vector<int64_t> list;
    StateRows<T> before, after;
    std::vector<uint8_t> marks;
  };
  enum Changed { kNothing, kAll, kSome };

  const Device<T>& device() const { return devices_.template of<T>(); }
  void take_block(StateRows<T>& block);
  Some& some();
  Change begin_some(const RowList&);
  void commit_some();
  void write_some(StateRows<T> from);

  const Devices& devices_;
  const ptrdiff_t count_, size_;
  Arena memory_;
  StateRows<T> blocks_[2] = {};
  size_t current_ = 0;
  Changed changed_ = kNothing;  // by the last change, if it was committed
  std::unique_ptr<Some> some_;
  std::atomic<bool> writing_{false};  // whether some rows are being written where they are
};

}  // namespace recurra
