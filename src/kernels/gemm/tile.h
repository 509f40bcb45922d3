// A tile of rows x columns of A B in registers: what every product of the library is made of, so each element has one
// summation order, k ascending by fma, whatever tile computes it. With scales, that is the order of each segment.
#pragma once
#include "kernels/gemm/storage.h"
#include "kernels/simd/vec.h"

namespace recurra::RECURRA_ISA {

// Of weights stored as T. Made once per ISA, by kernels/gemm/tiles.cpp, as is the table of what weight gradients add:
// [rows - 1][vectors - 1].
extern const Storage<float> own_f32;
extern const Storage<double> own_f64;
template <class T>
struct AddTiles {
  TileFunction<T> sizes[kMaxRows][kMaxVectors];
};
extern const AddTiles<float> add_tiles_f32;
extern const AddTiles<double> add_tiles_f64;

namespace {

template <class T>
RECURRA_INLINE const Storage<T>& own_storage() {
  if constexpr (sizeof(T) == sizeof(float))
    return own_f32;
  else
    return own_f64;
}
RECURRA_INLINE const AddTiles<float>& add_tiles(const Tile<float>&) { return add_tiles_f32; }
RECURRA_INLINE const AddTiles<double>& add_tiles(const Tile<double>&) { return add_tiles_f64; }

template <class T>
constexpr ptrdiff_t bytes_of(ptrdiff_t n) {
  return n * ptrdiff_t(sizeof(T));
}

// Vectors of columns in a tile of plain matrices. With 16 registers tiles are narrow, so that B is read contiguously.
constexpr ptrdiff_t kTileVectors = kRegisters == 32 ? 4 : 2;

// Columns whose rows of B lie side by side are a strip. With 16 registers a panel of four vectors is two strips, each
// with all its rows of B, as tiles of more than three rows take one strip at a time.
constexpr int strips_of(ptrdiff_t vectors) { return kRegisters == 16 && vectors == 4 ? 2 : 1; }

// The most rows of a tile with `vectors` vectors of columns: accumulators, a row of B and a broadcast must fit the
// registers.
constexpr int max_rows(ptrdiff_t vectors) {
  return kRegisters == 32 ? (vectors == 4 ? 6 : 8) : vectors == 3 ? 4 : vectors == 1 ? 8 : 6;
}

template <class T>
RECURRA_INLINE void call_tile(const TileFunction<T> (&row)[kMaxVectors], const Tile<T>& t, ptrdiff_t first, int rows,
                              int vectors) {
  if (strips_of(vectors) == 2 && rows > 3) {
    row[1](t, first, 0);
    row[1](t, first, 1);
  } else {
    row[vectors - 1](t, first, 0);
  }
}

// `rows` <= max_rows(vectors) rows from `first` of A on, 1 to 4 vectors of columns; B in the tiles' format, or T
// itself.
template <class T>
RECURRA_INLINE void multiply(const Tiles<T>& tiles, const Tile<T>& t, ptrdiff_t first, int rows, int vectors) {
  call_tile(tiles.multiply[rows - 1], t, first, rows, vectors);
}
template <class T>
RECURRA_INLINE void multiply(const Tile<T>& t, ptrdiff_t first, int rows, int vectors) {
  multiply(own_storage<T>().tiles, t, first, rows, vectors);
}
// The same for weight gradients, A column major: out += A B, a sum over rows and steps.
template <class T>
RECURRA_INLINE void add(const Tile<T>& t, ptrdiff_t first, int rows, int vectors) {
  call_tile(add_tiles(t).sizes[rows - 1], t, first, rows, vectors);
}

// A single row cannot fill the pipeline with one panel's chains of fma: it takes as many panels at once as half the
// registers hold.
constexpr int max_panels(ptrdiff_t vectors) {
  return kRegisters / 2 / int(vectors) < kMaxRows ? kRegisters / 2 / int(vectors) : kMaxRows;
}

// One row, `panels` <= max_panels(vectors) panels of 1 to 4 vectors.
template <class T>
RECURRA_INLINE void multiply_row(const Tiles<T>& tiles, const Tile<T>& t, ptrdiff_t row, int panels, int vectors) {
  tiles.row[panels - 1][vectors - 1](t, row, 0);
}

// A tile of one row beside kBesideRows rows of another product, with Q steps in k of the row for each of the other's. A
// single row reads each weight once and waits for it; the other product reuses its weights for several rows.
constexpr int kBesideRows = 5;
constexpr bool fits_beside(ptrdiff_t vectors) { return vectors <= kTileVectors; }

// 1 to 4 vectors, where fits_beside(vectors); Q is 2 or 4. Both of one segment, Q * other.segments->k <=
// own.segments->k.
template <class T>
RECURRA_INLINE void multiply_beside(const Tiles<T>& tiles, const Tile<T>& own, ptrdiff_t row, const Tile<T>& other,
                                    ptrdiff_t first, int vectors, int q) {
  tiles.beside[vectors - 1][q / 2 - 1](own, row, other, first);
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
