// Additive attention's call, as it crosses the border between the code compiled once and the code compiled per ISA.
#pragma once
#include <stddef.h>

namespace recurra {

// Queries against `count` keys: score j of query t is v . tanh(query t + key j), all of `size` features. Scores and the
// queries' gradient take one query a call. "Padded" is to whole pairs of vectors.
template <class T>
struct AdditiveCall {
  ptrdiff_t size, count, queries;
  const T* query;
  ptrdiff_t query_row;
  const T* keys;
  ptrdiff_t key_row;
  const T* factors;  // e^(2 key), padded, from additive_factors()
  T most_key;        // what that returned
  ptrdiff_t factor_row;
  T* query_factors;  // scratch, [queries][factor_row]
  const T* v;        // padded with zeros
  const T* ask[2];   // what will be read after this query, asked for as its keys are: as much from each
  T* scores;         // forwards
  const T* dscores;  // backwards, with what follows
  ptrdiff_t dscores_row;
  T* dquery;
  T* dkeys;  // added to
  ptrdiff_t dkey_row;
  T* dv;  // padded, added to
};

}  // namespace recurra
