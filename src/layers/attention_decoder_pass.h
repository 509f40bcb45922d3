// The arrays of a decoder's call. Part of attention_decoder.cpp.
#pragma once
#include "layers/attention_decoder.h"

namespace recurra {

// Room for a time-major sequence, as the cell and the projections read it.
template <class T>
Sequence<T> take_steps(Arena& memory, ptrdiff_t rows, ptrdiff_t steps, ptrdiff_t features) {
  const ptrdiff_t row = spaced<T>(features);
  return {memory.take<T>(size_t(rows * steps * row)), row, rows * row};
}

// Prefetches a row that will soon be read or written, which the hardware would only fetch on access.
template <class T>
void ask_for(const T* row, ptrdiff_t n) {
  for (ptrdiff_t k = 0; k < n; k += 64 / ptrdiff_t(sizeof(T))) __builtin_prefetch(row + k, 0, 2);
}

// A batch, or a sequence, with rows and steps exchanged.
inline Batch turned(const Batch& batch, Arena& memory) {
  int64_t* rows = memory.take<int64_t>(size_t(batch.steps));
  for (ptrdiff_t s = 0, running = batch.rows; s < batch.steps; ++s) {
    while (batch.length(running - 1) <= s) --running;
    rows[s] = running;
  }
  const bool whole = batch.steps > 0 && rows[batch.steps - 1] == batch.rows;
  return {batch.steps, batch.rows, whole ? nullptr : rows, nullptr, 0, 0};
}
template <class T>
Sequence<const T> turned(Sequence<T> s) {
  return {s.data, s.step_stride, s.row_stride};
}

template <class T>
Sequence<T> from_column(Sequence<T> s, ptrdiff_t column) {
  return {s.data + column, s.row_stride, s.step_stride};
}

template <class T>
struct AttentionDecoder<T>::Packed {
  Arena memory;
  typename Scoring<T>::Packed scoring;
  PackedMatrix<T> combine, combine_t;
};

// A call's arrays, with rows sorted by descending length.
template <class T>
struct AttentionDecoder<T>::Pass {
  const int32_t* order = nullptr;  // the caller's rows
  Batch batch = {};
  Sequence<T> x = {};         // the cell's input: [the caller's x; c or a]
  Sequence<T> h = {};         // one step more: index t holds h before step t
  Sequence<T> combined = {};  // [c; h]
  Sequence<T> a = {};
  StateRows<const T> state = {};  // data null: zeros
  StateRows<T> final_state = {};
  Attending<T> attending;

  Sequence<T> h_after() const { return {h.data + h.step_stride, h.row_stride, h.step_stride}; }
};

}  // namespace recurra
