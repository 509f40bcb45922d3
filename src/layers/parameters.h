// Named arrays in one flat buffer and their gradients in another: what optimisers, files and workers exchange.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "device/moves.h"
#include "layers/touched_rows.h"
#include "layers/versions.h"
#include "platform/error.h"
#include "platform/fork.h"
#include "platform/no_memory.h"

namespace recurra {

// How the mutex of parameters is locked.
typedef ForkSafe<std::lock_guard<std::shared_mutex>> WriteLock;
typedef ForkSafe<std::shared_lock<std::shared_mutex>> ReadLock;

struct ParameterSpec {
  std::string name;
  std::vector<int64_t> shape;
};

template <class T>
class Parameters {
 public:
  struct Entry {
    std::string name;
    std::vector<int64_t> shape;
    ptrdiff_t begin, end;
  };

  Parameters(const Devices& devices, const std::vector<ParameterSpec>& specs)
      : devices_(devices), memory_(devices.memory) {
    for (const ParameterSpec& spec : specs) {
      ptrdiff_t n = 1;
      for (int64_t d : spec.shape) {
        check(d >= 0 && (d == 0 || n <= PTRDIFF_MAX / 16 / d), "Parameters", "'", spec.name,
              "' has an impossible shape ", shape_text(spec.shape.data(), int(spec.shape.size())));
        n *= d;
      }
      for (const Entry& entry : entries_)
        check(entry.name != spec.name, "Parameters", "two arrays are named '", spec.name, "'");
      check(size_ <= PTRDIFF_MAX / 16 - n, "Parameters", "too many elements");
      entries_.push_back({spec.name, spec.shape, size_, size_ + n});
      size_ += n;
    }
    try {
      values_ = memory_.take<T>(size_t(size_));
      grads_ = memory_.take<T>(size_t(size_));
    } catch (const std::bad_alloc& error) {
      throw NoMemory("Parameters: " + NoMemory::text_of(error) + ": there are " + std::to_string(size_) +
                     " numbers, and as many gradients; make the layer smaller");
    }
    for (T* data : {values_, grads_}) fill_flat(device(), data, size_, T(0));
  }

  const std::vector<Entry>& entries() const { return entries_; }
  const Entry& entry(const std::string& name) const {
    for (const Entry& e : entries_)
      if (e.name == name) return e;
    std::string names;
    for (const Entry& e : entries_) names += (names.empty() ? "" : ", ") + e.name;
    fail("Parameters", "no array is named '" + name + "'; there are: " + (names.empty() ? "none" : names));
  }
  ptrdiff_t size() const { return size_; }
  // Where they live.
  const Devices& devices() const { return devices_; }
  const Device<T>& device() const { return devices_.of<T>(); }
  T* values() const { return values_; }
  T* grads() const { return grads_; }

  // Of parameters that are one table of a sparse gradient: its rows that are not zero, under the mutex; else null.
  TouchedRows* touched() const { return touched_.get(); }
  void make_sparse() {
    const Entry& table = entries_.at(0);
    touched_ = std::make_unique<TouchedRows>(table.shape[0], table.shape[1]);
  }
  // Adds a flat gradient to that of parameters that are not sparse; the caller holds the mutex.
  void add_gradient(const T* gradient) { add_flat(device(), gradient, size_, grads_); }
  // Sets the gradient to zero; the caller holds the mutex.
  void zero_grad() {
    if (!touched_) {  // in pieces, which several threads can take
      constexpr ptrdiff_t kPiece = 1 << 16;
      const ptrdiff_t pieces = size_ / kPiece;
      fill_rows(device(), pieces, kPiece, T(0), {grads_, kPiece});
      return fill_flat(device(), grads_ + pieces * kPiece, size_ % kPiece, T(0));
    }
    const ptrdiff_t size = touched_->row_size();
    for (int64_t row : touched_->rows()) fill_flat(device(), grads_ + row * size, size, T(0));
    touched_->clear();
  }

  // Whoever writes values moves the version on, so that nothing made from them is ever stale.
  uint64_t version() const { return version_.count(); }
  void touch() { version_.move(); }
  Version& versions() { return version_; }

  // Held while values or gradients are written and while packed copies are made; shared by those who only read.
  std::shared_mutex& mutex() { return mutex_; }

 private:
  const Devices& devices_;
  std::vector<Entry> entries_;
  ptrdiff_t size_ = 0;
  Arena memory_;
  T* values_ = nullptr;
  T* grads_ = nullptr;
  std::unique_ptr<TouchedRows> touched_;
  Version version_;
  std::shared_mutex mutex_;
};

}  // namespace recurra
