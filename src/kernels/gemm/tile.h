// A tile of rows x columns of A B in registers: what every product of the library is made of, so each element has one
// summation order, k ascending by fma, whatever tile computes it.
#pragma once
#include "kernels/simd/vec.h"

namespace recurra::RECURRA_ISA {

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

constexpr int kMaxRows = 8, kMaxVectors = 4;
template <class T>
using TileFunction = void (*)(const Tile<T>&, ptrdiff_t first, ptrdiff_t column);
template <class T>
using BesideFunction = void (*)(const Tile<T>&, ptrdiff_t row, const Tile<T>& other, ptrdiff_t first);

// Every size that fits: [rows - 1][vectors - 1]. Made once per ISA, by kernels/gemm/tiles.cpp.
template <class T>
struct Tiles {
  TileFunction<T> multiply[kMaxRows][kMaxVectors], add[kMaxRows][kMaxVectors];
  TileFunction<T> row[kMaxRows][kMaxVectors];  // [panels - 1][vectors - 1]
  BesideFunction<T> beside[kMaxVectors][2];    // [vectors - 1][Q / 2 - 1]
};
extern const Tiles<float> tiles_f32;
extern const Tiles<double> tiles_f64;

namespace {

RECURRA_INLINE const Tiles<float>& tiles_for(const Tile<float>&) { return tiles_f32; }
RECURRA_INLINE const Tiles<double>& tiles_for(const Tile<double>&) { return tiles_f64; }

// Vectors of columns in a tile of plain matrices. With 16 registers tiles are narrow, so that B is read contiguously.
constexpr ptrdiff_t kTileVectors = kRegisters == 32 ? 4 : 2;

// The most rows of a tile with `vectors` vectors of columns: accumulators, a row of B and a broadcast must fit the
// registers. With 16 registers tiles of four vectors are computed as two of two.
constexpr int max_rows(ptrdiff_t vectors) {
  return kRegisters == 32 ? (vectors == 4 ? 6 : 8) : vectors == 3 ? 4 : vectors == 1 ? 8 : 6;
}

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

// `rows` <= max_rows(vectors) rows from `first` of A on, 1 to 4 vectors of columns.
template <class T>
RECURRA_INLINE void multiply(const Tile<T>& t, ptrdiff_t first, int rows, int vectors) {
  call_tile(tiles_for(t).multiply[rows - 1], t, first, rows, vectors);
}
// The same for weight gradients, A column major: out += A B, a sum over rows and steps.
template <class T>
RECURRA_INLINE void add(const Tile<T>& t, ptrdiff_t first, int rows, int vectors) {
  call_tile(tiles_for(t).add[rows - 1], t, first, rows, vectors);
}

// A single row cannot fill the pipeline with one panel's chains of fma: it takes as many panels at once as half the
// registers hold.
constexpr int max_panels(ptrdiff_t vectors) {
  return kRegisters / 2 / int(vectors) < kMaxRows ? kRegisters / 2 / int(vectors) : kMaxRows;
}

// One row, `panels` <= max_panels(vectors) panels of 1 to 4 vectors.
template <class T>
RECURRA_INLINE void multiply_row(const Tile<T>& t, ptrdiff_t row, int panels, int vectors) {
  tiles_for(t).row[panels - 1][vectors - 1](t, row, 0);
}

// A tile of one row beside kBesideRows rows of another product, with Q steps in k of the row for each of the other's. A
// single row reads each weight once and waits for it; the other product reuses its weights for several rows.
constexpr int kBesideRows = 5;
constexpr bool fits_beside(ptrdiff_t vectors) { return vectors <= kTileVectors; }

// 1 to 4 vectors, where fits_beside(vectors); Q is 2 or 4. Both of one segment, Q * other.segments->k <=
// own.segments->k.
template <class T>
RECURRA_INLINE void multiply_beside(const Tile<T>& own, ptrdiff_t row, const Tile<T>& other, ptrdiff_t first,
                                    int vectors, int q) {
  tiles_for(own).beside[vectors - 1][q / 2 - 1](own, row, other, first);
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
