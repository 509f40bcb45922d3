// Layer normalisation (Ba, Kiros & Hinton 2016) inside a cell: norm(v) = (v - mean) / sqrt(variance + 1e-5) over all
// values of a row, which panels pad with zeros. Sums run over vectors first, then over lanes, in one order.
#pragma once
#include "kernels/cells/call.h"
#include "kernels/simd/vectors.h"

namespace recurra::RECURRA_ISA {
namespace {

constexpr double kNormEpsilon = 1e-5;

// The values of a row to normalise: the columns in `range` of every panel's units.
struct NormColumns {
  ptrdiff_t panels, units, columns, size;  // size: units that are not padding
  Range range;
  ptrdiff_t count() const { return range.count * size; }
  // Calls f(offset in a row, values from there on that are not padding) for vectors of U.
  template <class U, class F>
  RECURRA_INLINE void for_vectors(const F& f) const {
    for (ptrdiff_t p = 0; p < panels; ++p)
      for (int g = range.begin; g < range.begin + range.count; ++g)
        for (ptrdiff_t w = 0; w < units; w += lanes<U>()) f(p * columns + g * units + w, size - p * units - w);
  }
};

template <class T>
struct Moments {
  T mean, scale;
};

template <class U, class T>
Moments<T> moments(const T* row, const NormColumns& where) {
  U sum = {}, squares = {};
  where.for_vectors<U>([&](ptrdiff_t at, ptrdiff_t) { sum = sum + load<U>(row + at); });
  const T mean = sum_lanes(sum) / T(where.count());
  where.for_vectors<U>([&](ptrdiff_t at, ptrdiff_t n) {
    const U d = first_lanes(load<U>(row + at) - broadcast<U>(mean), n);
    squares = fma(d, d, squares);
  });
  return {mean, 1 / sqrt(sum_lanes(squares) / T(where.count()) + T(kNormEpsilon))};
}

template <class U, class T>
RECURRA_INLINE U normalised(const T* row, const Moments<T>& m, ptrdiff_t n) {
  return first_lanes((load<U>(row) - broadcast<U>(m.mean)) * broadcast<U>(m.scale), n);
}
// row = norm(row)
template <class U, class T>
Moments<T> normalise(T* row, const NormColumns& where) {
  const Moments<T> m = moments<U>(static_cast<const T*>(row), where);
  where.for_vectors<U>([&](ptrdiff_t at, ptrdiff_t n) { store(row + at, normalised<U>(row + at, m, n)); });
  return m;
}

// From the gradient d of norm(v) to that of v: (d - mean of d - norm mean of d norm) scale.
template <class U>
struct NormGradient {
  U sum = {}, dot = {};
  U mean, slope, scale;
  RECURRA_INLINE void add(U d, U norm) {
    sum = sum + d;
    dot = fma(d, norm, dot);
  }
  template <class T>
  RECURRA_INLINE void finish(T scale_, ptrdiff_t count) {
    mean = broadcast<U>(sum_lanes(sum) / T(count));
    slope = broadcast<U>(sum_lanes(dot) / T(count));
    scale = broadcast<U>(scale_);
  }
  // Padding lanes get a value that is never read.
  RECURRA_INLINE U operator()(U d, U norm) const { return fma(-slope, norm, d - mean) * scale; }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
