// What a call of a decoder works on. Part of attention_decoder.cpp.
#pragma once
#include "layers/attention_decoder.h"

namespace recurra {

// Room for a sequence whose steps lie one after the other, as the cell and the projections take them.
template <class T>
Sequence<T> take_steps(Arena& memory, ptrdiff_t rows, ptrdiff_t steps, ptrdiff_t features) {
  const ptrdiff_t row = spaced<T>(features);
  return {memory.take<T>(size_t(rows * steps * row)), row, rows * row};
}

// Asks for a row that will soon be read or written; the hardware would once it is waited for.
template <class T>
void ask_for(const T* row, ptrdiff_t n) {
  for (ptrdiff_t k = 0; k < n; k += 64 / ptrdiff_t(sizeof(T))) __builtin_prefetch(row + k, 0, 2);
}

// A batch, and its sequences, with rows and steps in each other's place.
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

// A call's arrays, with rows in order of descending lengths.
template <class T>
struct AttentionDecoder<T>::Pass {
  const int32_t* order = nullptr;  // the caller's rows
  Batch batch = {};
  Sequence<T> x = {};         // of the cell: [the caller's x; what attention adds]
  Sequence<T> h = {};         // one step more than there are: h before step t at t
  Sequence<T> combined = {};  // [c; h]
  Sequence<T> a = {};
  StateRows<const T> state = {};
  StateRows<T> final_state = {};
  Attending<T> attending;

  Sequence<T> h_after() const { return {h.data + h.step_stride, h.row_stride, h.step_stride}; }
};

}  // namespace recurra
