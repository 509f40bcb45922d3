// The rows of a large table that a sparse gradient touches.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace recurra {

// The rows that a gradient has touched since it was last zeroed, each once.
class TouchedRows {
 public:
  TouchedRows(ptrdiff_t rows, ptrdiff_t size) : size_(size), marks_(size_t(rows)) {}

  ptrdiff_t row_size() const { return size_; }
  // Makes room for `more` further rows, so that add() does not throw.
  void reserve(ptrdiff_t more) { rows_.reserve(std::min(marks_.size(), rows_.size() + size_t(more))); }
  void add(int64_t row) {
    if (marks_[size_t(row)]) return;
    marks_[size_t(row)] = true;
    rows_.push_back(row);
    sorted_ = false;
  }
  // In ascending order, so that sums over them do not depend on the order of add().
  const std::vector<int64_t>& rows() {
    if (!sorted_) std::sort(rows_.begin(), rows_.end());
    sorted_ = true;
    return rows_;
  }
  void clear() {
    for (int64_t row : rows_) marks_[size_t(row)] = false;
    rows_.clear();
  }

 private:
  ptrdiff_t size_;
  std::vector<uint8_t> marks_;  // [row]
  std::vector<int64_t> rows_;
  bool sorted_ = true;
};

}  // namespace recurra
