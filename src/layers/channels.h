// Layers with numbers for each channel: a step's features are those of one position, or of several (the places of an
// image), one behind the other.
#pragma once
#include "layers/layer.h"

namespace recurra {

inline void check_channels(const char* operation, const char* name, ptrdiff_t channels) {
  constexpr ptrdiff_t kMost = 1 << 24;
  check(channels >= 1 && channels <= kMost, operation, name, " is ", channels, ", expected 1 to ", kMost);
}

// features: 0 if unknown.
inline void check_positions(const char* operation, const char* name, ptrdiff_t features, ptrdiff_t channels) {
  check(features % channels == 0, operation, "got ", features, " features, expected a multiple of ", name, "=",
        channels, ", as each position has so many");
}

// Repeats the numbers of `channels` for each of a step's positions.
template <class T>
void spread(const Device<T>& device, const T* channels, ptrdiff_t count, ptrdiff_t features, T* to) {
  copy_rows<T>(device, features / count, count, {channels, 0}, {to, count});
}

// to (channels) += the sum over the positions; from (positions, channels).
template <class T>
void sum_positions(const Run& run, const T* from, ptrdiff_t features, ptrdiff_t channels, T* to) {
  const Batch batch = {1, features / channels, nullptr, nullptr, 0, 0};
  T* const sum = run.arena.template take<T>(size_t(channels));
  run.device<T>().sum_each_row(run, batch, channels, {from, 0, channels}, {sum, 0, 0});
  add_flat<T>(run.device<T>(), sum, channels, to);
}

// The positions of a batch's steps as steps of their own.
inline Batch position_batch(const Batch& batch, ptrdiff_t positions, Arena& host) {
  if (positions == 1) return batch;
  return batch_of_steps(batch, host, [&](ptrdiff_t steps) { return steps * positions; });
}

// A sequence with the positions of its steps as steps. If its steps are not contiguous, this is a copy, and of an
// output scratch that finish() copies to it.
template <class T>
class Positions {
 public:
  Positions(const Run& run, const Batch& batch, ptrdiff_t features, ptrdiff_t channels)
      : run_(run), batch_(batch), features_(features), channels_(channels) {}

  Sequence<const T> read(Sequence<const T> x) const {
    if (!x.data || is_contiguous(x)) return split(x);
    const Sequence<T> made = take_sequence<T>(run_.arena, batch_, features_);
    run_.device<T>().copy({&batch_, features_, x, made});
    return split(read_only(made));
  }
  Sequence<T> write(Sequence<T> y) {
    y_ = y;
    scratch_ = !y.data || is_contiguous(y) ? y : take_sequence<T>(run_.arena, batch_, features_);
    return split(scratch_);
  }
  void finish() const {
    if (scratch_.data != y_.data) run_.device<T>().copy({&batch_, features_, read_only(scratch_), y_});
  }

 private:
  template <class S>
  bool is_contiguous(Sequence<S> s) const {
    return features_ == channels_ || s.step_stride == features_;
  }
  template <class S>
  Sequence<S> split(Sequence<S> s) const {
    return features_ == channels_ ? s : Sequence<S>{s.data, s.row_stride, channels_};
  }

  const Run& run_;
  const Batch& batch_;
  ptrdiff_t features_, channels_;
  Sequence<T> y_ = {}, scratch_ = {};
};

}  // namespace recurra
