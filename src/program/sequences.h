// Small work on sequences: room for one, and what is done at every valid step of each row.
#pragma once
#include <algorithm>

#include "backend/backend.h"

namespace recurra {

template <class T>
Sequence<T> take_sequence(Arena& memory, const Batch& batch, ptrdiff_t features, bool time_major = false) {
  T* data = memory.take<T>(size_t(batch.rows * batch.steps * features));
  if (time_major) return {data, features, batch.rows * features};
  return {data, batch.steps * features, features};
}

// f(row, step) for all valid steps.
template <class F>
void for_each_valid(const Batch& batch, const F& f) {
  for (ptrdiff_t r = 0; r < batch.rows; ++r)
    for (ptrdiff_t s = 0; s < batch.length(r); ++s) f(r, s);
}

template <class T>
void copy_valid(const Batch& batch, ptrdiff_t features, Sequence<const T> from, Sequence<T> to) {
  for_each_valid(batch, [&](ptrdiff_t r, ptrdiff_t s) { std::copy_n(from.at(r, s), features, to.at(r, s)); });
}

template <class T>
void clear_valid(const Batch& batch, ptrdiff_t features, Sequence<T> to) {
  for_each_valid(batch, [&](ptrdiff_t r, ptrdiff_t s) { std::fill_n(to.at(r, s), features, T(0)); });
}

template <class T>
void add_valid(const Batch& batch, ptrdiff_t features, Sequence<const T> from, Sequence<T> to) {
  for_each_valid(batch, [&](ptrdiff_t r, ptrdiff_t s) {
    const T* a = from.at(r, s);
    T* b = to.at(r, s);
    for (ptrdiff_t k = 0; k < features; ++k) b[k] += a[k];
  });
}

}  // namespace recurra
