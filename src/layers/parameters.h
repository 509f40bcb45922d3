// Named arrays in one flat buffer and their gradients in another, which optimisers, files and workers exchange.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "layers/gradient.h"
#include "layers/versions.h"
#include "platform/error.h"
#include "platform/no_memory.h"

namespace recurra {

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
    gradient_.emplace(device(), grads_, size_, mutex_);
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
  // The device that holds them.
  const Devices& devices() const { return devices_; }
  const Device<T>& device() const { return devices_.of<T>(); }
  T* values() const { return values_; }
  T* grads() const { return grads_; }

  // The parameters' own gradient, guarded by the same mutex.
  Gradient<T>& gradient() { return *gradient_; }
  TouchedRows* touched() const { return gradient_->touched(); }
  // For parameters that are one table, of which a gradient touches few rows.
  void make_sparse() { gradient_->make_sparse(entries_.at(0).shape[0], entries_.at(0).shape[1]); }

  // Each write of values changes the version, so that nothing stale made from them is used.
  uint64_t version() const { return version_.count(); }
  void touch() { version_.move(); }
  Version& versions() { return version_; }

  // Held exclusively while values or gradients are written and packed copies are made, shared by readers.
  std::shared_mutex& mutex() { return mutex_; }

 private:
  const Devices& devices_;
  std::vector<Entry> entries_;
  ptrdiff_t size_ = 0;
  Arena memory_;
  T* values_ = nullptr;
  T* grads_ = nullptr;
  Version version_;
  std::shared_mutex mutex_;
  std::optional<Gradient<T>> gradient_;
};

}  // namespace recurra
