// Memory of a device for a tape, with a guard behind it.
#pragma once
#include <sys/mman.h>

#include <cstring>

#include "fence.h"
#include "program/program.h"

namespace recurra {

class GuardedBlock {
 public:
  // Memory of the CPU ends at a page that cannot be accessed, `shift` bytes before the end of the one before it.
  GuardedBlock(const Devices& devices, size_t size, size_t shift = 0) : devices_(devices), size_(size) {
    if (devices.gate) {
      data_ = mapped_ = devices.memory.take(size, Arena::kAlignment);
      return;
    }
    whole_ = (size + shift + kPage - 1) / kPage * kPage;
    void* mapped = mmap(nullptr, whole_ + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || mprotect(static_cast<char*>(mapped) + whole_, kPage, PROT_NONE) != 0) std::abort();
    mapped_ = static_cast<char*>(mapped);
    data_ = mapped_ + whole_ - shift - size;
    std::memset(mapped_, kFill, whole_);
  }
  ~GuardedBlock() {
    if (devices_.gate)
      devices_.memory.give_back(mapped_, size_);
    else
      munmap(mapped_, whole_ + kPage);
  }
  GuardedBlock(const GuardedBlock&) = delete;
  GuardedBlock& operator=(const GuardedBlock&) = delete;

  TapeBlock block() const { return {data_, size_, 7, nullptr}; }
  size_t size() const { return size_; }

  void copy(const GuardedBlock& from) {
    const HostAccess access(devices_);
    std::memcpy(data_, from.data_, size_);
  }
  void spoil() {
    const HostAccess access(devices_);
    std::memset(data_, kFill, size_);
  }
  // From now on only to be read, where that can be checked.
  void seal() {
    if (!devices_.gate && mprotect(mapped_, whole_, PROT_READ) != 0) std::abort();
  }
  bool is_untouched_outside() const {
    const auto filled = [](const char* from, const char* end) {
      return std::all_of(from, end, [](char byte) { return byte == char(kFill); });
    };
    return devices_.gate || (filled(mapped_, data_) && filled(data_ + size_, mapped_ + whole_));
  }

 private:
  static constexpr size_t kPage = 4096;
  static constexpr int kFill = 0xA5;
  const Devices& devices_;
  char *mapped_ = nullptr, *data_ = nullptr;
  size_t size_, whole_ = 0;
};

}  // namespace recurra
