// The scratch memory of a backward, and packing of the weight gradient's operands into transposed tiles.
#pragma once
#include "kernels/cells/forward_scratch.h"
#include "kernels/gemm/product.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class T>
struct BackwardScratch {
  const T** dy;          // [row] of this step
  const T** h_previous;  // [row]
  const T** x;           // [row]
  bool* cut;             // [row] whether a reset drops the state after this step
  bool* cut_before;      // [row] whether one drops the state before it
  Segment<T>* segments;  // [strip]
  T* zeros;              // an initial state of zeros
  T* operand;            // [row][stride], the second stage's or the projection's
  // For options:
  T* dh;       // [row][stride], the gradient of h, then of h as the equations computed it
  T* made;     // [row][stride], that of the input of a projection
  T* masked;   // [row][stride], h as the recurrent product saw it
  T* zone;     // [row][padded] of c, then one row of h: the share of the old state that is kept
  T* of_norm;  // [row][stride], the gradient of c through its norm
  T* norm;     // one row: normalised c
  ptrdiff_t stride, size;

  static BackwardScratch plan(const CellInfo& cell, const Panels& panels, const CellOptions<T>& options, ptrdiff_t rows,
                              T* base) {
    BackwardScratch s = {};
    ptrdiff_t used = 0;
    auto take = [&](ptrdiff_t bytes) {
      T* p = base ? base + used : nullptr;
      used += (bytes + 63) / 64 * 64 / ptrdiff_t(sizeof(T));
      return static_cast<void*>(p);
    };
    s.stride = work_stride<T>(panels.padded());
    s.dy = static_cast<const T**>(take(rows * ptrdiff_t(sizeof(T*))));
    s.h_previous = static_cast<const T**>(take(rows * ptrdiff_t(sizeof(T*))));
    s.x = static_cast<const T**>(take(rows * ptrdiff_t(sizeof(T*))));
    s.cut = static_cast<bool*>(take(rows));
    s.cut_before = static_cast<bool*>(take(rows));
    s.segments = static_cast<Segment<T>*>(take(panels.count * panels.strips * ptrdiff_t(sizeof(Segment<T>))));
    s.zeros = static_cast<T*>(take(panels.padded() * ptrdiff_t(sizeof(T))));
    const auto take_rows = [&](ptrdiff_t n, ptrdiff_t row) {
      return static_cast<T*>(take(n * row * ptrdiff_t(sizeof(T))));
    };
    if (cell.stages > 1 || options.projected) s.operand = take_rows(rows, s.stride);
    if (options.any) s.dh = take_rows(rows, s.stride);
    if (options.projected) s.made = take_rows(rows, s.stride);
    if (options.recurrent_mask) s.masked = take_rows(rows, s.stride);
    if (options.zone_h.random || options.zone_c.random) s.zone = take_rows(rows + 1, panels.padded());
    if (options.normalised()) {
      if (cell.has_cell) s.of_norm = take_rows(rows, s.stride), s.norm = take_rows(1, panels.padded());
    }
    s.size = used;
    return s;
  }
};

// The norm of n values, in f64 and scaled, so that no square overflows or vanishes.
template <class T>
double norm_of(const T* v, ptrdiff_t n) {
  double most = 0, sum = 0;
  for (ptrdiff_t i = 0; i < n; ++i) {
    const double size = v[i] < 0 ? -double(v[i]) : double(v[i]);
    if (size > most) most = size;
  }
  const double unit = most > 0 ? most : 1;
  for (ptrdiff_t i = 0; i < n; ++i) sum += (v[i] / unit) * (v[i] / unit);
  return unit * __builtin_sqrt(sum);
}

// Copies columns [0, size) of `count` rows, row r at from(r), one after the other to `to`.
template <int size, class T, class From>
RECURRA_INLINE void copy_columns(T* to, ptrdiff_t count, const From& from) {
  for (ptrdiff_t r = 0; r < count; ++r) __builtin_memcpy(to + r * size, from(r), size * sizeof(T));
}

// Where the rows of an operand are: by their addresses, or at a distance. Types of their own, as packing is compiled
// once for each.
template <class T>
struct RowsByAddress {
  const T* const* rows;
  RECURRA_INLINE const T* operator()(ptrdiff_t r) const { return rows[r]; }
};
template <class T>
struct RowsApart {
  const T* first;
  ptrdiff_t stride;
  RECURRA_INLINE const T* operator()(ptrdiff_t r) const { return first + r * stride; }
};

// Packs `count` rows of an operand of k values as the right side of an outer product.
template <class T, class From>
__attribute__((noinline)) void pack_outer(T* to, ptrdiff_t ring_rows, ptrdiff_t position, ptrdiff_t count,
                                          const From& from, ptrdiff_t k) {
  constexpr ptrdiff_t lanes = kLanes<T>;
  const ColumnPanels panels = {(k + lanes - 1) / lanes, kTileVectors};
  for (ptrdiff_t p = 0; p < panels.count(); ++p) {
    const ptrdiff_t begin = panels.begin(p) * lanes, width = panels.begin(p + 1) * lanes - begin;
    copy_panel(to + begin * ring_rows + position * width, count, from, begin, width, k);
  }
}

// Packs `count` rows of an operand, each of k values and (if `ones`) a one, into its transposed tiles.
template <class T, class From>
__attribute__((noinline)) void pack_operand(T* to, ptrdiff_t ring_rows, ptrdiff_t position, ptrdiff_t count,
                                            const From& from, ptrdiff_t k, bool ones, int width) {
  const Split tiles = split(k + ones, max_rows(width));
  for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
    const ptrdiff_t begin = tiles.begin(i);
    const int size = tiles.size(i);
    T* tile = to + begin * ring_rows + position * size;
    if (begin + size > k) {
      for (ptrdiff_t r = 0; r < count; ++r) {
        copy_tail<kMaxRows>(tile + r * size, from(r) + begin, size - 1);
        tile[r * size + size - 1] = 1;
      }
      continue;
    }
    const auto column = [&](ptrdiff_t r) { return from(r) + begin; };
    switch (size) {  // a copy of fixed size is a move or two
#define RECURRA_COPY(n)                   \
  case n:                                 \
    copy_columns<n>(tile, count, column); \
    break
      RECURRA_COPY(1);
      RECURRA_COPY(2);
      RECURRA_COPY(3);
      RECURRA_COPY(4);
      RECURRA_COPY(5);
      RECURRA_COPY(6);
      RECURRA_COPY(7);
      RECURRA_COPY(8);
#undef RECURRA_COPY
    }
  }
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
