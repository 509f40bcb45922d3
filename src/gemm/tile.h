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
  ptrdiff_t b_panel = 0, init_panel = 0, out_panel = 0;  // to the next panel, for tiles that span several
};

// acc += A B over k steps of one segment.
template <class T, int R, int N, bool ColumnMajor, int P, class V>
RECURRA_INLINE void accumulate(V (&acc)[R][P * N], const T* a, ptrdiff_t row, const T* b, ptrdiff_t b_row,
                               ptrdiff_t b_panel, ptrdiff_t k) {
  constexpr int L = kLanes<T>;
  for (; k > 0; --k) {
    V bs[P * N];
    RECURRA_UNROLL
    for (int n = 0; n < P * N; ++n) bs[n] = load<V>(b + n / N * b_panel + n % N * L);
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

// One tile of R rows from row `first` of A and N vectors from column `column` of each of P panels of B.
template <class T, int R, int N, int P = 1>
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
    accumulate<T, R, N, false, P>(acc, segment.a + first * segment.row, segment.row, segment.b + column, t.b_row,
                                  t.b_panel, segment.k);
  }
  RECURRA_UNROLL
  for (int m = 0; m < R; ++m) {
    RECURRA_UNROLL
    for (int n = 0; n < P * N; ++n) store(t.out + m * t.out_row + n / N * t.out_panel + column + n % N * L, acc[m][n]);
  }
}

// The same for weight gradients, A column major: out += A B, a sum over rows and steps, which may be hundreds of
// thousands. It is made in three levels, short runs in registers, the block beside them, then the total: each level
// keeps the rounding errors of the one below small.
constexpr ptrdiff_t kShortRun = 64;
template <class T, int R, int N>
void add_tile(const Tile<T>& t, ptrdiff_t first, ptrdiff_t column) {
  typedef Vec<T> V;
  constexpr int L = kLanes<T>;
  T block[R * N * L] = {};
  for (int m = 0; m < R; ++m) prefetch(t.out + m * t.out_row + column, N * L);
  for (ptrdiff_t s = 0; s < t.segment_count; ++s) {
    const Segment<T>& segment = t.segments[s];
    for (ptrdiff_t k = 0; k < segment.k; k += kShortRun) {
      V acc[R][N] = {};
      accumulate<T, R, N, true, 1>(acc, segment.a + first + k * segment.row, segment.row,
                                   segment.b + column + k * t.b_row, t.b_row, 0,
                                   segment.k - k < kShortRun ? segment.k - k : kShortRun);
      RECURRA_UNROLL
      for (int m = 0; m < R; ++m) {
        RECURRA_UNROLL
        for (int n = 0; n < N; ++n) store(block + (m * N + n) * L, load<V>(block + (m * N + n) * L) + acc[m][n]);
      }
    }
  }
  for (int m = 0; m < R; ++m)
    for (int n = 0; n < N; ++n) {
      T* out = t.out + m * t.out_row + column + n * L;
      store(out, load<V>(out) + load<V>(block + (m * N + n) * L));
    }
}

// Vectors of columns that a tile takes well: with fewer registers narrow ones, whose B lies in one piece.
constexpr ptrdiff_t kTileVectors = kRegisters == 32 ? 4 : 2;

// Accumulators must fit the registers beside a row of B and a broadcast: the most rows for N vectors of columns. With
// 16 registers four vectors, where there are so many, are taken as two and two.
constexpr int max_rows(ptrdiff_t vectors) {
  return kRegisters == 32 ? (vectors == 4 ? 6 : 8) : vectors == 3 ? 4 : vectors == 1 ? 8 : 6;
}
constexpr int kMaxRows = 8, kMaxVectors = 4;

template <class T>
using TileFunction = void (*)(const Tile<T>&, ptrdiff_t first, ptrdiff_t column);

// Every size that fits; sizes that do not stand in as one row, never called.
#define RECURRA_TILE_ROW(F, R) \
  { F<T, R, 1>, F<T, R, 2>, F<T, (R <= max_rows(3) ? R : 1), 3>, F<T, (R <= (kRegisters == 32 ? 6 : 3) ? R : 1), 4> }
#define RECURRA_TILE_TABLE(F)                                                                          \
  {                                                                                                    \
    RECURRA_TILE_ROW(F, 1), RECURRA_TILE_ROW(F, 2), RECURRA_TILE_ROW(F, 3), RECURRA_TILE_ROW(F, 4),    \
        RECURRA_TILE_ROW(F, 5), RECURRA_TILE_ROW(F, 6), RECURRA_TILE_ROW(F, 7), RECURRA_TILE_ROW(F, 8) \
  }
template <class T>
constexpr TileFunction<T> kMultiplyTiles[kMaxRows][kMaxVectors] = RECURRA_TILE_TABLE(multiply_tile);
template <class T>
constexpr TileFunction<T> kAddTiles[kMaxRows][kMaxVectors] = RECURRA_TILE_TABLE(add_tile);
#undef RECURRA_TILE_TABLE
#undef RECURRA_TILE_ROW

template <class T>
RECURRA_INLINE void call_tile(const TileFunction<T> (&row)[kMaxVectors], const Tile<T>& t, ptrdiff_t first, int rows,
                              int vectors) {
  if (kRegisters == 16 && vectors == 4 && rows > 3) {
    row[1](t, first, 0);
    row[1](t, first, 2 * kLanes<T>);
  } else {
    row[vectors - 1](t, first, 0);
  }
}

// `rows` <= max_rows(vectors) rows, 1 to 4 vectors of columns.
template <class T>
RECURRA_INLINE void multiply(const Tile<T>& t, ptrdiff_t first, int rows, int vectors) {
  call_tile(kMultiplyTiles<T>[rows - 1], t, first, rows, vectors);
}
template <class T>
RECURRA_INLINE void add(const Tile<T>& t, ptrdiff_t first, int rows, int vectors) {
  call_tile(kAddTiles<T>[rows - 1], t, first, rows, vectors);
}

// A single row cannot fill the pipeline with one panel's chains of fma: it takes as many panels at once as half the
// registers hold.
constexpr int max_panels(ptrdiff_t vectors) {
  return kRegisters / 2 / int(vectors) < kMaxRows ? kRegisters / 2 / int(vectors) : kMaxRows;
}

// One row, `panels` <= max_panels(vectors) panels of 1 to 4 vectors; those that do not fit stand in as one panel.
#define RECURRA_PANELS(P)                                                                                          \
  {                                                                                                                \
    multiply_tile<T, 1, 1, P>, multiply_tile<T, 1, 2, (P <= max_panels(2) ? P : 1)>,                               \
        multiply_tile<T, 1, 3, (P <= max_panels(3) ? P : 1)>, multiply_tile<T, 1, 4, (P <= max_panels(4) ? P : 1)> \
  }
template <class T>
RECURRA_INLINE void multiply_row(const Tile<T>& t, ptrdiff_t row, int panels, int vectors) {
  static constexpr TileFunction<T> table[kMaxRows][kMaxVectors] = {
      RECURRA_PANELS(1), RECURRA_PANELS(2), RECURRA_PANELS(3), RECURRA_PANELS(4),
      RECURRA_PANELS(5), RECURRA_PANELS(6), RECURRA_PANELS(7), RECURRA_PANELS(8)};
  table[panels - 1][vectors - 1](t, row, 0);
}
#undef RECURRA_PANELS

// A tile of one row, and beside it kBesideRows rows of another product: for each of the other's steps in k the row
// takes Q. A row alone waits for its weights, which it reads once; the other's are read for several rows.
constexpr int kBesideRows = 5;
constexpr bool fits_beside(ptrdiff_t vectors) { return vectors <= kTileVectors; }

// Both of one segment, Q * other.segments->k <= own.segments->k.
template <class T, int N, int Q>
void multiply_beside_tile(const Tile<T>& own, ptrdiff_t row, const Tile<T>& other, ptrdiff_t first) {
  typedef Vec<T> V;
  constexpr int L = kLanes<T>, R = kBesideRows;
  V mine[1][N], acc[R][N];
  RECURRA_UNROLL
  for (int n = 0; n < N; ++n) mine[0][n] = own.init ? load<V>(own.init + n * L) : V{};
  RECURRA_UNROLL
  for (int m = 0; m < R; ++m) {
    RECURRA_UNROLL
    for (int n = 0; n < N; ++n) acc[m][n] = load<V>(other.init + m * other.init_row + n * L);
  }
  const Segment<T> x = *own.segments, y = *other.segments;
  const T *xa = x.a + row * x.row, *xb = x.b, *ya = y.a + first * y.row, *yb = y.b;
  for (ptrdiff_t k = 0; k < y.k; ++k) {
    RECURRA_UNROLL
    for (int q = 0; q < Q; ++q) accumulate<T, 1, N, false, 1>(mine, xa + q, 0, xb + q * own.b_row, own.b_row, 0, 1);
    accumulate<T, R, N, false, 1>(acc, ya, y.row, yb, other.b_row, 0, 1);
    xa += Q, xb += Q * own.b_row;
    ya += 1, yb += other.b_row;
  }
  accumulate<T, 1, N, false, 1>(mine, xa, 0, xb, own.b_row, 0, x.k - Q * y.k);
  RECURRA_UNROLL
  for (int n = 0; n < N; ++n) store(own.out + n * L, mine[0][n]);
  RECURRA_UNROLL
  for (int m = 0; m < R; ++m) {
    RECURRA_UNROLL
    for (int n = 0; n < N; ++n) store(other.out + m * other.out_row + n * L, acc[m][n]);
  }
}

// 1 to 4 vectors, where fits_beside(vectors); Q is 2 or 4.
template <class T>
RECURRA_INLINE void multiply_beside(const Tile<T>& own, ptrdiff_t row, const Tile<T>& other, ptrdiff_t first,
                                    int vectors, int q) {
  typedef void (*Function)(const Tile<T>&, ptrdiff_t, const Tile<T>&, ptrdiff_t);
  constexpr int three = fits_beside(3) ? 3 : 1, four = fits_beside(4) ? 4 : 1;
  static constexpr Function table[kMaxVectors][2] = {
      {multiply_beside_tile<T, 1, 2>, multiply_beside_tile<T, 1, 4>},
      {multiply_beside_tile<T, 2, 2>, multiply_beside_tile<T, 2, 4>},
      {multiply_beside_tile<T, three, 2>, multiply_beside_tile<T, three, 4>},
      {multiply_beside_tile<T, four, 2>, multiply_beside_tile<T, four, 4>}};
  table[vectors - 1][q / 2 - 1](own, row, other, first);
}

// Rows are split evenly into the fewest tiles: tile i of split(n, most) is [begin(i), begin(i + 1)).
struct Split {
  ptrdiff_t rows, tiles;
  RECURRA_INLINE ptrdiff_t begin(ptrdiff_t i) const {
    return i == 0 ? 0 : i == tiles ? rows : rows * i / tiles;  // most have one or two tiles: no division then
  }
  RECURRA_INLINE int size(ptrdiff_t i) const { return int(begin(i + 1) - begin(i)); }
};
RECURRA_INLINE Split split(ptrdiff_t rows, int most) {
  return {rows, rows <= most ? rows > 0 : (rows + most - 1) / most};
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
