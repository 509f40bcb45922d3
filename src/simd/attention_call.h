// Additive attention's call, as it crosses the border between the code compiled once and the code compiled per ISA.
#pragma once
#include <stddef.h>

namespace recurra {

// One query against `count` keys: scores[j] = v . tanh(query + keys[j]), all of `size` features.
template <class T>
struct AdditiveCall {
  ptrdiff_t size, count;
  const T* query;
  const T* keys;
  ptrdiff_t key_row;
  const T* factors;  // e^(2 key), from additive_factors(); null: some are out of range
  ptrdiff_t factor_row;
  T* query_factors;  // scratch, padded to whole vectors
  const T* v;
  T* scores;         // forwards
  const T* dscores;  // backwards, with what follows
  T* dquery;
  T* dkeys;  // [count][factor_row], added to
  T* dv;     // padded, added to
};

}  // namespace recurra
