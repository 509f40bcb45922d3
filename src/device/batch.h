// The arguments of every device call: a batch of rows, memory for sequences, and the run's options.
#pragma once
#include <cstdint>
#include <type_traits>

#include "kernels/cells/sequence.h"
#include "platform/memory.h"
#include "platform/parallel.h"

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
  // The first step of the row's last episode; -1 if none starts in the row, which then continues from its state.
  ptrdiff_t last_reset(ptrdiff_t row) const {
    if (!reset) return -1;
    ptrdiff_t step = length(row) - 1;
    while (step >= 0 && !reset[row * reset_row + step * reset_step]) --step;
    return step;
  }
};

// The batch whose rows have steps_of(n) steps where those of `batch` have n, and which starts no episodes.
template <class F>
Batch batch_of_steps(const Batch& batch, Arena& memory, const F& steps_of) {
  Batch made = {batch.rows, steps_of(batch.steps), nullptr, nullptr, 0, 0};
  if (batch.lengths) {
    int64_t* lengths = memory.take<int64_t>(size_t(batch.rows));
    for (ptrdiff_t r = 0; r < batch.rows; ++r) lengths[r] = steps_of(batch.lengths[r]);
    made.lengths = lengths;
  }
  return made;
}

// Takes memory for a sequence.
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

// Called before and after the host accesses a device's memory directly.
class HostGate {
 public:
  virtual ~HostGate() = default;
  virtual void open() = 0;  // waits for the device's pending work
  virtual void close() = 0;
};

// A device for both dtypes, and the source of its memory. gate null: the host may access the memory at any time.
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

// A scope in which the host reads or writes a device's arrays. Outside of one, only the device does.
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

// The memory of a call or a tape: the device's arrays, and the host's, such as lengths and orders.
struct Memory {
  Arena device, host;
  explicit Memory(const Devices& devices) : device(devices.memory) {}
  Memory(Arena&& on_device, Arena&& on_host) : device(std::move(on_device)), host(std::move(on_host)) {}
  // Like Arena::counting(), on the device. The host's arrays are real, as sizes depend on them.
  static Memory counting() { return {Arena::counting(), Arena()}; }

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
};

// The source of random masks: a seed, and the number of a batch's first row, so that rows have the same masks in a part
// of the batch.
struct RandomRows {
  uint64_t seed = 0;
  int64_t first_row = 0;
};

// The options of a run: the device, scratch memory, the number of threads, and whom to poll for a stop.
struct Run {
  const Devices& devices;
  Arena& arena;  // scratch on the device
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
