// The micro-kernel: a tile of rows x columns of A B in registers. Every product of the library is made of it, so each
// element has one summation order, k ascending by fma, whatever tile computes it.
#pragma once
#include "simd/vec.h"

namespace recurra::RECURRA_ISA {
namespace {

// A stretch of the summed dimension. Row major: A(m, k) = a[m * row + k]. Column major: A(m, k) = a[k * row + m].
// B(k, n) = b[k * b_row + n], with b_row common to all segments of a product.
template <class T>
struct Segment {
  const T* a;
  ptrdiff_t row;
  const T* b;
  ptrdiff_t k;
};

template <class T>
struct Tile {
  const Segment<T>* segments;
  ptrdiff_t segment_count;
  ptrdiff_t b_row;
  const T* init;  // row m starts from init[m * init_row + n]; null: from zero
  ptrdiff_t init_row;
  T* out;
  ptrdiff_t out_row;
  bool add;                                              // out += A B rather than out = A B
  ptrdiff_t b_panel = 0, init_panel = 0, out_panel = 0;  // to the next panel, for tiles that span several
};

// One tile of R rows from row `first` of A and N vectors from column `column` of each of P panels of B.
template <class T, int R, int N, bool ColumnMajor, int P = 1>
void multiply_tile(const Tile<T>& t, ptrdiff_t first, ptrdiff_t column) {
  typedef Vec<T> V;
  constexpr int L = kLanes<T>;
  V acc[R][P * N];
  RECURRA_UNROLL
  for (int m = 0; m < R; ++m) {
    RECURRA_UNROLL
    for (int n = 0; n < P * N; ++n)
      acc[m][n] = t.init ? load<V>(t.init + m * t.init_row + n / N * t.init_panel + column + n % N * L) : V{};
  }
  for (ptrdiff_t s = 0; s < t.segment_count; ++s) {
    const Segment<T>& segment = t.segments[s];
    const ptrdiff_t row = segment.row, b_row = t.b_row;
    const T* a = ColumnMajor ? segment.a + first : segment.a + first * row;
    const T* b = segment.b + column;
    for (ptrdiff_t k = segment.k; k > 0; --k) {
      V bs[P * N];
      RECURRA_UNROLL
      for (int n = 0; n < P * N; ++n) bs[n] = load<V>(b + n / N * t.b_panel + n % N * L);
      RECURRA_UNROLL
      for (int m = 0; m < R; ++m) {
        const V x = broadcast<V>(ColumnMajor ? a[m] : a[m * row]);
        RECURRA_UNROLL
        for (int n = 0; n < P * N; ++n) acc[m][n] = fma(x, bs[n], acc[m][n]);
      }
      a += ColumnMajor ? row : 1;
      b += b_row;
    }
  }
  RECURRA_UNROLL
  for (int m = 0; m < R; ++m) {
    RECURRA_UNROLL
    for (int n = 0; n < P * N; ++n) {
      T* out = t.out + m * t.out_row + n / N * t.out_panel + column + n % N * L;
      store(out, t.add ? load<V>(out) + acc[m][n] : acc[m][n]);
    }
  }
}

// Accumulators must fit the registers beside a row of B and a broadcast: the most rows for N vectors of columns. With
// 16 registers four vectors are taken as two and two.
constexpr int max_rows(ptrdiff_t vectors) {
  return kRegisters == 32 ? (vectors == 4 ? 6 : 8) : vectors == 3 ? 4 : vectors == 1 ? 8 : 6;
}
constexpr int kMaxRows = 8, kMaxVectors = 4;

template <class T, bool ColumnMajor>
struct TileTable {
  typedef void (*Function)(const Tile<T>&, ptrdiff_t, ptrdiff_t);
#define RECURRA_TILE_ROW(R)                                                         \
  {                                                                                 \
    multiply_tile<T, R, 1, ColumnMajor>, multiply_tile<T, R, 2, ColumnMajor>,       \
        multiply_tile<T, (R <= max_rows(3) ? R : 1), 3, ColumnMajor>,               \
        multiply_tile<T, (R <= (kRegisters == 32 ? 6 : 3) ? R : 1), 4, ColumnMajor> \
  }
  static constexpr Function table[kMaxRows][kMaxVectors] = {
      RECURRA_TILE_ROW(1), RECURRA_TILE_ROW(2), RECURRA_TILE_ROW(3), RECURRA_TILE_ROW(4),
      RECURRA_TILE_ROW(5), RECURRA_TILE_ROW(6), RECURRA_TILE_ROW(7), RECURRA_TILE_ROW(8)};
#undef RECURRA_TILE_ROW
};

// `rows` <= max_rows(vectors) rows, 1 to 4 vectors of columns.
template <class T, bool ColumnMajor = false>
RECURRA_INLINE void multiply(const Tile<T>& t, ptrdiff_t first, int rows, int vectors) {
  const auto& row = TileTable<T, ColumnMajor>::table[rows - 1];
  if (kRegisters == 16 && vectors == 4 && rows > 3) {
    row[1](t, first, 0);
    row[1](t, first, 2 * kLanes<T>);
  } else {
    row[vectors - 1](t, first, 0);
  }
}

// A single row cannot fill the pipeline with one panel's chains of fma: it takes several panels at once.
constexpr int panels_at_once(ptrdiff_t vectors) { return vectors * 4 <= kRegisters / 2 ? 4 : 2; }

// One row, `panels` = 4, 2 or 1 panels of 1 to 4 vectors.
template <class T>
RECURRA_INLINE void multiply_row(const Tile<T>& t, ptrdiff_t row, int panels, int vectors) {
  typedef typename TileTable<T, false>::Function Function;
  static constexpr Function table[3][kMaxVectors] = {
      {multiply_tile<T, 1, 1, false, 1>, multiply_tile<T, 1, 2, false, 1>, multiply_tile<T, 1, 3, false, 1>,
       multiply_tile<T, 1, 4, false, 1>},
      {multiply_tile<T, 1, 1, false, 2>, multiply_tile<T, 1, 2, false, 2>, multiply_tile<T, 1, 3, false, 2>,
       multiply_tile<T, 1, 4, false, 2>},
      {multiply_tile<T, 1, 1, false, 4>, multiply_tile<T, 1, 2, false, 4>,
       multiply_tile<T, 1, 3, false, panels_at_once(3)>, multiply_tile<T, 1, 4, false, panels_at_once(4)>}};
  table[panels / 2][vectors - 1](t, row, 0);
}

// Rows are split evenly into the fewest tiles: tile i of split(n, most) is [begin(i), begin(i + 1)).
struct Split {
  ptrdiff_t rows, tiles;
  RECURRA_INLINE ptrdiff_t begin(ptrdiff_t i) const { return rows * i / tiles; }
  RECURRA_INLINE int size(ptrdiff_t i) const { return int(begin(i + 1) - begin(i)); }
};
RECURRA_INLINE Split split(ptrdiff_t rows, ptrdiff_t most) { return {rows, (rows + most - 1) / most}; }

}  // namespace
}  // namespace recurra::RECURRA_ISA
