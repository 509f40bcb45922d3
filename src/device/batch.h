// What every call of a device is given: a batch of rows, room for sequences, and how to run.
#pragma once
#include <cstdint>
#include <type_traits>

#include "kernels/cells/call.h"
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

// One device, for either type.
struct Devices {
  const Device<float>& f32;
  const Device<double>& f64;
};

// What every call is given: the device, scratch memory, how many threads it may use, and whom to ask whether to go on.
struct Run {
  const Devices& devices;
  Arena& arena;
  int threads;
  Stop* stop;
  bool training;
  uint64_t seed;
  bool stopped() const { return stop && stop->requested(); }
  bool poll() const { return stop && stop->poll(); }
  template <class T>
  const Device<T>& device() const {
    if constexpr (std::is_same_v<T, float>)
      return devices.f32;
    else
      return devices.f64;
  }
};

}  // namespace recurra
