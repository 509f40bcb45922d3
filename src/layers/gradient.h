// A flat gradient: a layer's own, or one in the caller's memory.
#pragma once
#include <memory>
#include <mutex>
#include <shared_mutex>

#include "device/moves.h"
#include "layers/touched_rows.h"
#include "platform/fork.h"

namespace recurra {

// Locks for the mutex of parameters or of a gradient.
typedef ForkSafe<std::lock_guard<std::shared_mutex>> WriteLock;
typedef ForkSafe<std::shared_lock<std::shared_mutex>> ReadLock;

// Laid out as the parameters. Readers and writers hold the mutex.
template <class T>
class Gradient {
 public:
  Gradient(const Device<T>& device, T* data, ptrdiff_t size, std::shared_mutex& mutex)
      : device_(device), data_(data), size_(size), mutex_(mutex) {}

  T* data() const { return data_; }
  std::shared_mutex& mutex() const { return mutex_; }
  // The non-zero rows of a sparse gradient, whose parameters are one table; null for a dense gradient.
  TouchedRows* touched() const { return touched_.get(); }
  void make_sparse(ptrdiff_t rows, ptrdiff_t row_size) { touched_ = std::make_unique<TouchedRows>(rows, row_size); }

  // Adds a flat array; the gradient must be dense.
  void add(const T* gradient) { add_flat(device_, gradient, size_, data_); }
  // Adds another gradient of the same layout.
  void add(const Gradient& other) {
    if (!touched_) return add(other.data_);
    const std::vector<int64_t>& rows = other.touched_->rows();
    const ptrdiff_t size = touched_->row_size();
    touched_->reserve(ptrdiff_t(rows.size()));
    for (int64_t row : rows) {
      touched_->add(row);
      add_flat(device_, other.data_ + row * size, size, data_ + row * size);
    }
  }
  void zero() {
    if (!touched_) {  // in pieces, for several threads
      constexpr ptrdiff_t kPiece = 1 << 16;
      const ptrdiff_t pieces = size_ / kPiece;
      fill_rows(device_, pieces, kPiece, T(0), {data_, kPiece});
      return fill_flat(device_, data_ + pieces * kPiece, size_ % kPiece, T(0));
    }
    const ptrdiff_t size = touched_->row_size();
    for (int64_t row : touched_->rows()) fill_flat(device_, data_ + row * size, size, T(0));
    touched_->clear();
  }

 private:
  const Device<T>& device_;
  T* const data_;
  const ptrdiff_t size_;
  std::shared_mutex& mutex_;
  std::unique_ptr<TouchedRows> touched_;
};

}  // namespace recurra
