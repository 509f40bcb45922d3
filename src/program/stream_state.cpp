#include "program/stream_state.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "platform/error.h"
#include "platform/fork.h"

namespace recurra {

void check_range(const RowList& list, ptrdiff_t rows, const char* name, const char* what) {
  for (ptrdiff_t i = 0; i < list.count; ++i)
    check(list.rows[i] >= 0 && list.rows[i] < rows, name, what, " holds ", list.rows[i], ", expected 0 to ", rows - 1);
}

void check_repeats(const RowList& list, ptrdiff_t rows, const char* name, const char* what,
                   std::vector<uint8_t>& marks) {
  const int64_t* const end = list.rows + std::max<ptrdiff_t>(list.count, 0);
  if (std::adjacent_find(list.rows, end, std::greater_equal<>()) == end) return;  // ascending
  if (marks.empty()) marks.assign(size_t(rows), 0);
  const int64_t* const twice =
      std::find_if(list.rows, end, [&](int64_t row) { return std::exchange(marks[size_t(row)], uint8_t(1)) != 0; });
  std::for_each(list.rows, end, [&](int64_t row) { marks[size_t(row)] = 0; });
  if (twice != end)
    fail(name, std::string(what) + " holds " + std::to_string(*twice) + " twice, expected each row once");
}

template <class T>
StreamState<T>::StreamState(const Devices& devices, ptrdiff_t rows, ptrdiff_t size)
    : devices_(devices), count_(rows), size_(size), memory_(devices.memory) {
  take_block(blocks_[0]);
  fill_rows(device(), rows, size, T(0), blocks_[0]);
}

template <class T>
void StreamState<T>::take_block(StateRows<T>& block) {
  const NoFork gate;  // a child goes on with this memory
  block = {memory_.take<T>(size_t(count_ * size_)), size_};
}

template <class T>
auto StreamState<T>::some() -> Some& {
  if (!some_) some_ = std::make_unique<Some>(devices_);
  return *some_;
}

template <class T>
auto StreamState<T>::begin_some(const RowList& list) -> Change {
  Some& some = this->some();
  if (list.count > some.most) {  // in strides, as the lists of a service's steps keep changing
    const ptrdiff_t most = std::max(list.count, std::min(2 * some.most, count_));
    some.list.reserve(size_t(most));
    Arena memory(devices_.memory);
    some.before = {memory.take<T>(size_t(most * size_)), size_};
    some.after = {memory.take<T>(size_t(most * size_)), size_};
    some.memory = std::move(memory);
    some.most = most;
  }
  some.list.assign(list.rows, list.rows + list.count);
  gather_rows(device(), some.list.data(), list.count, size_, rows(), some.before);
  return {read_only(some.before), some.after};
}

template <class T>
void StreamState<T>::commit_some() {
  write_some(some_->after);
  changed_ = kSome;
}

// The fences are for a fork meanwhile, whose child has what was stored so far.
template <class T>
void StreamState<T>::write_some(StateRows<T> from) {
  writing_.store(true, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  scatter_rows(device(), some_->list.data(), ptrdiff_t(some_->list.size()), size_, read_only(from), blocks_[current_]);
  writing_.store(false, std::memory_order_release);
}

template <class T>
void StreamState<T>::undo() {
  if (changed_ == kAll) current_ = 1 - current_;
  if (changed_ == kSome) write_some(some_->before);
  changed_ = kNothing;
}

template <class T>
void StreamState<T>::recover() {
  if (writing_.load(std::memory_order_acquire)) write_some(some_->before);
  changed_ = kNothing;
  abandon();
}

template class StreamState<float>;
template class StreamState<double>;

}  // namespace recurra
