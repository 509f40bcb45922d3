// What is done at every valid step of each row of a sequence.
#pragma once
#include <algorithm>

#include "layers/valid_steps.h"

namespace recurra {

template <class T>
void copy_valid(const Batch& batch, ptrdiff_t features, Sequence<const T> from, Sequence<T> to) {
  for_each_valid(batch, features, [&](ptrdiff_t r, ptrdiff_t s) { std::copy_n(from.at(r, s), features, to.at(r, s)); });
}

template <class T>
void clear_valid(const Batch& batch, ptrdiff_t features, Sequence<T> to) {
  for_each_valid(batch, features, [&](ptrdiff_t r, ptrdiff_t s) { std::fill_n(to.at(r, s), features, T(0)); });
}

template <class T>
void add_valid(const Batch& batch, ptrdiff_t features, Sequence<const T> from, Sequence<T> to) {
  for_each_valid(batch, features, [&](ptrdiff_t r, ptrdiff_t s) {
    const T* a = from.at(r, s);
    T* b = to.at(r, s);
    for (ptrdiff_t k = 0; k < features; ++k) b[k] += a[k];
  });
}

}  // namespace recurra
