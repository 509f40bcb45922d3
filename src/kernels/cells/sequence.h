// Sequences and states of ragged batches, and how a direction runs through them. N rows (sequences) are sorted by
// descending length, so that the rows still running at a step are the first ones.
#pragma once
#include <stdint.h>

#include "kernels/gemm/call.h"

namespace recurra {

// Element (row, step, 0) is at data[row * row_stride + step * step_stride].
template <class T>
struct Sequence {
  T* data;
  ptrdiff_t row_stride, step_stride;
  RECURRA_ALWAYS_INLINE T* at(ptrdiff_t row, ptrdiff_t step) const {
    return data + row * row_stride + step * step_stride;
  }
};

// Rows of a state: element (row, 0) is at data[row * stride]; null stands for zeros.
template <class T>
struct StateRows {
  T* data;
  ptrdiff_t stride;
  RECURRA_ALWAYS_INLINE T* at(ptrdiff_t row) const { return data + row * stride; }
};

template <class T>
RECURRA_ALWAYS_INLINE Sequence<const T> read_only(Sequence<T> s) {
  return {s.data, s.row_stride, s.step_stride};
}
template <class T>
RECURRA_ALWAYS_INLINE StateRows<const T> read_only(StateRows<T> s) {
  return {s.data, s.stride};
}

struct Rows {
  const int32_t* batch;   // [N] the caller's row
  const int32_t* length;  // [N] descending
  const int32_t* active;  // [steps + 1] rows with a length > s
  const int64_t* offset;  // [steps] active[0] + ... + active[s - 1]
  ptrdiff_t steps;        // the largest length
  const uint8_t* reset;   // (caller's row, time); null: none
  ptrdiff_t reset_row, reset_step;
};

// How many of the rows from `first` up to `last` have a step s.
RECURRA_ALWAYS_INLINE ptrdiff_t active_rows(const Rows& rows, ptrdiff_t first, ptrdiff_t last, ptrdiff_t s) {
  const ptrdiff_t active = s < rows.steps ? rows.active[s] : 0;
  return active < first ? 0 : (active < last ? active : last) - first;
}

// A direction sees time `time(r, s)` at its step s.
struct Direction {
  bool reverse;
  RECURRA_ALWAYS_INLINE ptrdiff_t time(const Rows& rows, ptrdiff_t r, ptrdiff_t s) const {
    return reverse ? rows.length[r] - 1 - s : s;
  }
  // Whether the state that enters step s is dropped. A mark at time t cuts between t - 1 and t, in both directions; no
  // state but the initial one enters the first step of the reverse direction, and that one is kept.
  RECURRA_ALWAYS_INLINE bool cut(const Rows& rows, ptrdiff_t r, ptrdiff_t s) const {
    if (!rows.reset || (reverse && s == 0)) return false;
    return rows.reset[rows.batch[r] * rows.reset_row + (time(rows, r, s) + reverse) * rows.reset_step];
  }
};

}  // namespace recurra
