// How vectors of units meet the panels that they lie in.
#pragma once
#include "kernels/simd/vec.h"

namespace recurra::RECURRA_ISA {
namespace {

// Loads and stores one vector of units. Whole: all of one panel. Paired: panels have half a vector of units, so a
// vector holds those of two items (two rows of a panel, or two panels of a row), `next` elements apart; an odd last
// item is paired with itself (next = 0) and computed twice.
template <class T, bool paired>
struct Lanes {
  typedef Vec<T> V;
  typedef typename VecOf<T, kLanes<T> / (paired ? 2 : 1)>::type Piece;  // of one item
  static constexpr int kItems = paired ? 2 : 1;
  static RECURRA_INLINE V get(const T* p, ptrdiff_t next) {
    if constexpr (paired)
      return join<V>(load<HalfOf<V>>(p), load<HalfOf<V>>(p + next));
    else
      return load<V>(p);
  }
  static RECURRA_INLINE void put(T* p, ptrdiff_t next, V v) {
    if constexpr (paired) {
      store(p, low_half(v));
      store(p + next, high_half(v));
    } else {
      store(p, v);
    }
  }
  // The same where only the first n elements of the item exist, and n_next of the other one.
  static RECURRA_INLINE V get(const T* p, ptrdiff_t next, ptrdiff_t n, ptrdiff_t n_next) {
    if constexpr (paired)
      return join<V>(load<HalfOf<V>>(p, n), load<HalfOf<V>>(p + next, n_next));
    else
      return load<V>(p, n);
  }
  static RECURRA_INLINE void put(T* p, ptrdiff_t next, V v, ptrdiff_t n, ptrdiff_t n_next) {
    if constexpr (paired) {
      store(p, low_half(v), n);
      store(p + next, high_half(v), n_next);
    } else {
      store(p, v, n);
    }
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
