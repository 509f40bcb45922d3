// PyTorch's weights to and from the panels that the kernels read (kernels/cells/layout.h describes the layouts).
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cells/call.h"
#include "platform/memory.h"

namespace recurra {

// to(c, r) = from(r, c), or += : in squares of a 16-byte vector's side, the only ones that every x86-64 and ARM can
// turn in registers.
template <bool add, class T>
void transpose(T* to, ptrdiff_t to_stride, const T* from, ptrdiff_t from_stride, ptrdiff_t rows, ptrdiff_t columns) {
  constexpr ptrdiff_t side = 16 / sizeof(T);
  typedef T V __attribute__((vector_size(16)));
  const auto put = [](T* p, V v) {
    V old;
    if constexpr (add) {
      std::memcpy(&old, p, sizeof old);
      v += old;
    }
    std::memcpy(p, &v, sizeof v);
  };
  ptrdiff_t r = 0;
  for (; r + side <= rows; r += side) {
    ptrdiff_t c = 0;
    for (; c + side <= columns; c += side) {
      V v[side];
      for (ptrdiff_t i = 0; i < side; ++i) std::memcpy(&v[i], from + (r + i) * from_stride + c, sizeof(V));
      T* out = to + c * to_stride + r;
      if constexpr (side == 4) {
        const V low = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5),
                low2 = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
        const V high = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7),
                high2 = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
        put(out, __builtin_shufflevector(low, low2, 0, 1, 4, 5));
        put(out + to_stride, __builtin_shufflevector(low, low2, 2, 3, 6, 7));
        put(out + 2 * to_stride, __builtin_shufflevector(high, high2, 0, 1, 4, 5));
        put(out + 3 * to_stride, __builtin_shufflevector(high, high2, 2, 3, 6, 7));
      } else {
        put(out, __builtin_shufflevector(v[0], v[1], 0, 2));
        put(out + to_stride, __builtin_shufflevector(v[0], v[1], 1, 3));
      }
    }
    for (; c < columns; ++c)
      for (ptrdiff_t i = r; i < r + side; ++i)
        to[c * to_stride + i] = from[i * from_stride + c] + (add ? to[c * to_stride + i] : T(0));
  }
  for (; r < rows; ++r)
    for (ptrdiff_t c = 0; c < columns; ++c)
      to[c * to_stride + r] = from[r * from_stride + c] + (add ? to[c * to_stride + r] : T(0));
}

constexpr ptrdiff_t kPackBlock = 16;              // a cache line of f32 on the unpacked side
constexpr ptrdiff_t kPackAhead = 4 * kPackBlock;  // these are more rows at once than the hardware prefetcher follows

// Where a column of a panel's part begins in packed weights, in elements.
template <class P>
ptrdiff_t place_of(const PackedLayout& layout, ptrdiff_t panel, int part, ptrdiff_t column) {
  const ptrdiff_t width = layout.width[part];
  return layout.begin<P>(panel, part, column / width) + column % width;
}

// Calls piece(packed, packed_stride, plain, plain_stride, units, n) for every gate's weights in blocks of units x n
// inputs, small enough for both sides to stay in cache. Serves packing and, with the gradient's layout, unpacking.
// `part`: 0 the input's, 1 + i stage i's.
template <class P, class W, class F>
void for_weights(const CellInfo& cell, const Panels& panels, const PackedLayout& layout, ptrdiff_t hidden_size,
                 ptrdiff_t panel, int part, ptrdiff_t depth, P* packed, W* weights, const F& piece) {
  const Range range = part ? cell.recurrent[part - 1] : cell.input;
  const signed char* gates = part ? cell.recurrent_gate : cell.input_gate;
  const ptrdiff_t width = layout.width[part], first = panel * panels.units;
  const ptrdiff_t units = std::min(panels.units, hidden_size - first);
  for (int g = 0; g < range.count; ++g) {
    P* to = packed + place_of<P>(layout, panel, part, g * panels.units);
    W* from = weights + (gates[range.begin + g] * hidden_size + first) * depth;
    for (ptrdiff_t k = 0; k < depth; k += kPackBlock) {
      P* const column = to + k * width;
      for (ptrdiff_t u = 0; u < units; ++u) __builtin_prefetch(from + u * depth + k + kPackAhead);
      for (ptrdiff_t i = 0; i < kPackBlock; ++i) __builtin_prefetch(column + (kPackAhead + i) * width);
      piece(column, width, from + k, depth, units, std::min(kPackBlock, depth - k));
    }
  }
}

// The same for biases: piece(column of the packed bias row, plain) for units of one panel. `hidden`: bias_hh, else
// bias_ih.
template <class W, class F>
void for_biases(const CellInfo& cell, const Panels& panels, ptrdiff_t hidden_size, ptrdiff_t panel, bool hidden,
                W* bias, const F& piece) {
  const signed char* gates = hidden ? cell.recurrent_gate : cell.input_gate;
  const ptrdiff_t first = panel * panels.units;
  for (int g = 0; g < cell.groups; ++g)
    for (ptrdiff_t w = 0;
         gates[g] >= 0 && gates[g] < cell.biased[hidden] && w < std::min(panels.units, hidden_size - first); ++w)
      piece(g, w, bias[gates[g] * hidden_size + first + w]);
}

// Stores the n elements that pack(as_T) writes in the format.
template <class T, class F>
const char* stored(const Storage<T>& storage, ptrdiff_t n, Arena& memory, const F& pack) {
  char* const to = memory.take<char>(size_t(n * storage.bytes));
  if (!storage.narrow) {
    pack(reinterpret_cast<T*>(to));
    return to;
  }
  Arena wide;
  T* const from = wide.take<T>(size_t(n));
  pack(from);
  storage.narrow(from, to, n);
  return to;
}

// Divides the columns of packed rows by their scales: the largest magnitude of each over `largest`. Where that is 0, or
// too small to divide by, the column becomes zeros; a number that is not finite makes its scale so.
template <class T>
void scale_columns(T* packed, ptrdiff_t rows, ptrdiff_t width, T largest, T* scales) {
  std::fill_n(scales, width, T(0));
  for (ptrdiff_t r = 0; r < rows; ++r)
    for (ptrdiff_t c = 0; c < width; ++c) {
      const T size = std::fabs(packed[r * width + c]);
      scales[c] = size <= scales[c] || scales[c] != scales[c] ? scales[c] : size;
    }
  for (ptrdiff_t c = 0; c < width; ++c) {
    scales[c] /= largest;
    if (scales[c] < std::numeric_limits<T>::min()) scales[c] = 0;
  }
  for (ptrdiff_t r = 0; r < rows; ++r, packed += width)
    for (ptrdiff_t c = 0; c < width; ++c) packed[c] = scales[c] == 0 ? 0 : packed[c] / scales[c];
}

// The transposed matrix that takes gate gradients of `range` to `columns` inputs or hidden units:
// [column panel][panel][column of the range][unit][columns], zero where there is no such unit or column.
template <class T>
void pack_transposed(const CellInfo& cell, const Panels& panels, ptrdiff_t hidden_size, int part, const T* weights,
                     ptrdiff_t columns, ptrdiff_t lanes, const ColumnPanels& column_panels, ptrdiff_t panel,
                     T* packed) {
  const Range range = part ? cell.recurrent[part - 1] : cell.input;
  const signed char* gates = part ? cell.recurrent_gate : cell.input_gate;
  const ptrdiff_t depth = panels.count * range.count * panels.units;
  for (ptrdiff_t row = 0; row < range.count * panels.units; ++row) {
    const ptrdiff_t gate = gates[range.begin + row / panels.units], unit = panel * panels.units + row % panels.units;
    for (ptrdiff_t j = 0; j < column_panels.count(); ++j) {
      const ptrdiff_t from = column_panels.begin(j) * lanes, width = column_panels.begin(j + 1) * lanes - from;
      const ptrdiff_t n = unit < hidden_size ? std::clamp<ptrdiff_t>(columns - from, 0, width) : 0;
      T* to = packed + from * depth + (panel * range.count * panels.units + row) * width;
      if (n) std::copy_n(weights + (gate * hidden_size + unit) * columns + from, n, to);
      std::fill(to + n, to + width, T(0));
    }
  }
}

}  // namespace recurra
