// What every call of a device is given: a batch of rows, room for sequences, and how to run.
#pragma once
#include <cstdint>
#include <type_traits>

#include "kernels/cells/call.h"
#include "kernels/gemm/call.h"
#include "platform/memory.h"

namespace recurra {

// The caller's rows: dense (lengths null) or ragged.
struct Batch {
  ptrdiff_t rows, steps;
  const int64_t* lengths;
  const uint8_t* reset;
  ptrdiff_t reset_row, reset_step;
  ptrdiff_t length(ptrdiff_t row) const { return lengths ? lengths[row] : steps; }
  ptrdiff_t tokens() const {
    if (!lengths) return rows * steps;
    ptrdiff_t n = 0;
    for (ptrdiff_t r = 0; r < rows; ++r) n += lengths[r];
    return n;
  }
  // Where the row's last episode starts; -1 if no episode starts in the row, which goes on from its state then.
  ptrdiff_t last_reset(ptrdiff_t row) const {
    if (!reset) return -1;
    ptrdiff_t step = length(row) - 1;
    while (step >= 0 && !reset[row * reset_row + step * reset_step]) --step;
    return step;
  }
};

// Room for a sequence.
template <class T>
Sequence<T> take_sequence(Arena& memory, ptrdiff_t rows, ptrdiff_t steps, ptrdiff_t features) {
  return {memory.take<T>(size_t(rows * steps * features)), steps * features, features};
}
template <class T>
Sequence<T> take_sequence(Arena& memory, const Batch& batch, ptrdiff_t features, bool time_major = false) {
  if (!time_major) return take_sequence<T>(memory, batch.rows, batch.steps, features);
  return {memory.take<T>(size_t(batch.rows * batch.steps * features)), features, batch.rows * features};
}

template <class T>
class Device;

// Told when the host is about to look at a device's memory by itself.
class HostGate {
 public:
  virtual ~HostGate() = default;
  virtual void open() = 0;  // waits for what the device is at
  virtual void close() = 0;
};

// One device, for either type, and where its arrays live. gate null: the host may look at them at any time.
struct Devices {
  const Device<float>& f32;
  const Device<double>& f64;
  MemorySource& memory;
  HostGate* gate = nullptr;
  template <class T>
  const Device<T>& of() const {
    if constexpr (std::is_same_v<T, float>)
      return f32;
    else
      return f64;
  }
};

// A scope in which the host reads or writes a device's arrays. What is not in one leaves that to the device.
class HostAccess {
 public:
  explicit HostAccess(const Devices& devices) : gate_(devices.gate) {
    if (gate_) gate_->open();
  }
  ~HostAccess() {
    if (gate_) gate_->close();
  }
  HostAccess(const HostAccess&) = delete;
  HostAccess& operator=(const HostAccess&) = delete;

 private:
  HostGate* gate_;
};

// The memory of a call or a tape: the device's arrays, and what the host keeps beside them, such as lengths and orders.
struct Memory {
  Arena device, host;
  explicit Memory(const Devices& devices) : device(devices.memory) {}
  // As Arena::counting().
  static Memory counting() { return {Arena::counting(), Arena::counting()}; }

  struct Mark {
    Arena::Mark device, host;
  };
  Mark mark() const { return {device.mark(), host.mark()}; }
  void rewind(const Mark& mark) {
    device.rewind(mark.device);
    host.rewind(mark.host);
  }
  void reset() {
    device.reset();
    host.reset();
  }
  size_t used() const { return device.used() + host.used(); }

 private:
  Memory(Arena&& on_device, Arena&& on_host) : device(std::move(on_device)), host(std::move(on_host)) {}
};

// What random masks are made from: a seed, and the number of a batch's first row, so that rows keep their masks when
// they are a batch of their own.
struct RandomRows {
  uint64_t seed = 0;
  int64_t first_row = 0;
};

// What every call is given: the device, scratch memory, how many threads it may use, and whom to ask whether to go on.
struct Run {
  const Devices& devices;
  Arena& arena;  // the device's
  Arena& host;
  int threads;
  Stop* stop;
  bool training;
  RandomRows random;
  bool stopped() const { return stop && stop->requested(); }
  bool poll() const { return stop && stop->poll(); }
  template <class T>
  const Device<T>& device() const {
    return devices.of<T>();
  }
};

}  // namespace recurra
