// How a direction's weights, tapes and gate gradients are laid out: in panels of hidden units.
#pragma once
#include "kernels/cells/cell_info.h"

namespace recurra {

// A panel is `units` hidden units with all their columns side by side. Packed weights, tiles, tapes and gate gradients
// all have rows of groups * units values, so that the cell's equations read a tile as the product wrote it.
struct Panels {
  ptrdiff_t units;    // per panel
  ptrdiff_t count;    // ceil(H / units)
  ptrdiff_t columns;  // groups * units
  ptrdiff_t strips;   // in a panel's weights: kernels/gemm/tile.h
  RECURRA_ALWAYS_INLINE ptrdiff_t padded() const { return units * count; }
};

// The packed weights of a direction, per panel and strip: [input: I rows][stage 0: H rows][stage 1: H rows], with
// elements of any size. The gradient has the same layout with one more input row, which multiplies ones (the bias
// gradient). If the cell has columns that the input does not feed, stage 0 has such a row, too.
struct PackedLayout {
  ptrdiff_t rows[3];   // input, stage 0, stage 1
  ptrdiff_t width[3];  // elements in a strip's row
  // Bytes: of a strip's row, of what precedes a part in a strip, of a strip.
  ptrdiff_t row[3];
  ptrdiff_t offset[3];
  ptrdiff_t strip;
  ptrdiff_t strips;  // in a panel
  RECURRA_ALWAYS_INLINE ptrdiff_t panel() const { return strips * strip; }
  // Where a part of a panel's strip begins, in elements of type T.
  template <class T>
  RECURRA_ALWAYS_INLINE ptrdiff_t begin(ptrdiff_t p, int part, ptrdiff_t s = 0) const {
    return ((p * strips + s) * strip + offset[part]) / ptrdiff_t(sizeof(T));
  }
};
RECURRA_ALWAYS_INLINE PackedLayout packed_layout(const CellInfo& cell, const Panels& panels, ptrdiff_t input_rows,
                                                 ptrdiff_t hidden_rows, ptrdiff_t element) {
  PackedLayout p = {};
  p.strips = panels.strips;
  const Range ranges[3] = {cell.input, cell.recurrent[0], cell.recurrent[1]};
  for (int i = 0; i < 3 && i <= cell.stages; ++i) {
    p.rows[i] = i ? hidden_rows : input_rows;
    p.width[i] = ranges[i].count * panels.units / p.strips;
    p.row[i] = p.width[i] * element;
    p.offset[i] = p.strip;
    p.strip += p.rows[i] * p.row[i];
  }
  return p;
}

// The packed weights of a direction, in a storage format. Biases and scales lie beside the panels, as T.
template <class T>
struct PackedWeights {
  const Storage<T>* storage;
  PackedLayout layout;
  const char* panels;
  const T* biases;   // [panel][columns]
  Scales<T> scales;  // [part][panel][columns]
  RECURRA_ALWAYS_INLINE const char* strip(ptrdiff_t s) const { return panels + s * layout.strip; }
  RECURRA_ALWAYS_INLINE const char* panel(ptrdiff_t p) const { return strip(p * layout.strips); }
  // For a tile of `part` from a column of strip s on, in memory that the caller gives; null: the format has none.
  RECURRA_ALWAYS_INLINE const Scales<T>* scales_of(int part, ptrdiff_t s, ptrdiff_t column, Scales<T>& to) const {
    if (!scales.first) return nullptr;
    to = {scales.first + part * scales.segment + s * scales.strip + column, scales.segment, scales.strip, false};
    return &to;
  }
};

// The vectors that options multiply elementwise. Per panel, the packed weights hold first those with one value per
// unit, then those with one per column; their gradient has the same layout and one more vector of columns, the biases'.
struct UnitVectors {
  int units;      // those of the equations; then gain and bias of the cell's norm, or neither
  int columns;    // the gains of the input product's and the recurrent product's norm, or neither
  int peepholes;  // of the equations: three peepholes, or those that a cell has in any case
  RECURRA_ALWAYS_INLINE ptrdiff_t cell_norm(const Panels& panels) const { return peepholes * panels.units; }
  RECURRA_ALWAYS_INLINE ptrdiff_t column(const Panels& panels, int i) const {
    return units * panels.units + i * panels.columns;
  }
  RECURRA_ALWAYS_INLINE ptrdiff_t size(const Panels& panels) const { return column(panels, columns); }
  RECURRA_ALWAYS_INLINE ptrdiff_t gradient_size(const Panels& panels) const {
    return (column(panels, columns ? columns + 1 : 0) + 15) / 16 * 16;  // whole vectors
  }
};
RECURRA_ALWAYS_INLINE UnitVectors unit_vectors(const CellInfo& cell, bool peepholes, bool normalised) {
  const int own = peepholes ? 3 : cell.vectors;
  return {own + (normalised && cell.has_cell ? 2 : 0), normalised ? 2 : 0, own};
}

// A row of `norms`: both normalised products, then the scale of each norm.
RECURRA_ALWAYS_INLINE ptrdiff_t norm_row(const Panels& panels) { return 2 * panels.count * panels.columns + 16; }

}  // namespace recurra
