// Products as the micro-kernels see them, and the storage formats of packed weights: plain structs, as they cross the
// border between the code compiled once and the code compiled per ISA.
#pragma once
#include <stddef.h>

namespace recurra {

// A stretch of the summed dimension. Row major: A(m, k) = a[m * row + k]. Column major: A(m, k) = a[k * row + m].
// Row k of B begins k * b_row bytes after b, with b_row common to all segments of a product. What its elements are,
// only the micro-kernels know.
template <class T>
struct Segment {
  const T* a;
  ptrdiff_t row;
  const void* b;
  ptrdiff_t k;
};

// One scale a column of B, in formats where an element q stands for scale * q. Then each segment is summed from zero,
// and out = fma(scale, sum, before), where `before` is the init or what earlier segments gave.
template <class T>
struct Scales {
  const T* first;            // of a tile's first column in its first segment; null: the format has none
  ptrdiff_t segment, strip;  // to those of the next segment, of the next strip
  bool resumes;              // `out` holds the sum over the first segment's earlier k, which this one goes on with
};

template <class T>
struct Tile {
  const Segment<T>* segments;
  ptrdiff_t segment_count;
  ptrdiff_t b_row;  // bytes
  const T* init;    // row m starts from init[m * init_row + n]; null: from zero
  ptrdiff_t init_row;
  T* out;
  ptrdiff_t out_row;
  // To the next strip of columns, for tiles that span several; b_strip in bytes.
  ptrdiff_t b_strip = 0, init_strip = 0, out_strip = 0;
  const Scales<T>* scales = nullptr;  // only formats with scales read it
  // B of the product that follows, where weights come from beyond the L2 cache: the micro-kernel fetches ahead. Null:
  // not.
  const void* next = nullptr;
};

constexpr int kMaxRows = 8, kMaxVectors = 4;
template <class T>
using TileFunction = void (*)(const Tile<T>&, ptrdiff_t first, ptrdiff_t strip);
template <class T>
using BesideFunction = void (*)(const Tile<T>&, ptrdiff_t row, const Tile<T>& other, ptrdiff_t first);

// Micro-kernels of every size that fits, for B in one storage format: [rows - 1][vectors - 1].
template <class T>
struct Tiles {
  TileFunction<T> multiply[kMaxRows][kMaxVectors];
  TileFunction<T> row[kMaxRows][kMaxVectors];  // [panels - 1][vectors - 1]
  BesideFunction<T> beside[kMaxVectors][2];    // [vectors - 1][Q / 2 - 1]
};

// How packed weights are stored, whatever the type T that products compute with. Layouts are the same in every format,
// but for the size of an element.
template <class T>
struct Storage {
  const char* name;
  ptrdiff_t bytes;                                       // of an element
  void (*narrow)(const T* from, void* to, ptrdiff_t n);  // n elements from T to this format; null: it is T
  T largest;  // a column's scale is its largest magnitude over this; 0: a format without scales
  Tiles<T> tiles;
};

}  // namespace recurra
