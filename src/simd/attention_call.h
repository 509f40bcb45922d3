// Additive attention's call, as it crosses the border between the code compiled once and the code compiled per ISA.
#pragma once
#include <stddef.h>

namespace recurra {

// One query against `count` keys: scores[j] = v . tanh(query + keys[j]), all of `size` features. Rows of keys and of
// their gradient, and v's gradient, are padded to whole vectors, the keys with zeros.
template <class T>
struct AdditiveCall {
  ptrdiff_t size, count;
  const T* query;
  const T* keys;
  ptrdiff_t key_row;
  const T* v;
  T* scores;         // forwards
  const T* dscores;  // backwards, with what follows
  T* dquery;
  T* dkeys;  // added to
  T* dv;     // added to
};

}  // namespace recurra
