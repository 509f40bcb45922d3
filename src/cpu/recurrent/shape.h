// A recurrent stack as the CPU's kernels see it: sizes, panels and layouts that follow from its specification.
#pragma once
#include <algorithm>

#include "cpu/isa.h"
#include "device/device.h"
#include "platform/error.h"

namespace recurra {

// A user's cell runs in the loops of every cell that is called by its address.
template <class T>
CellKernels<T> cell_kernels(const RecurrentSpec& spec) {
  if (!spec.own) return *kernels<T>().cells[spec.cell];
  for (const CellKernels<T>* built_in : kernels<T>().cells)
    if (built_in->info->scanned) {
      CellKernels<T> cell = *built_in;
      cell.info = &spec.own->info;
      cell.scan = spec.own->equations<T>();
      return cell;
    }
  fail("Recurrent", "this build has no loops for a user's cell");
}

template <class T>
struct Shape {
  const RecurrentSpec& spec;
  const CellKernels<T> cell = cell_kernels<T>(spec);
  const CellInfo& info = *cell.info;
  const Panels panels = cell.panels(info, spec.hidden_size);
  const ptrdiff_t lanes = kernels<T>().lanes;
  const ptrdiff_t state_size = spec.state_size(), output_size = spec.directions * state_size;
  const UnitVectors vectors = unit_vectors(info, spec.peepholes, spec.layer_norm);

  ptrdiff_t input_size(ptrdiff_t layer) const { return layer ? output_size : spec.input_size; }
  ptrdiff_t largest_input() const { return spec.layers > 1 ? std::max(spec.input_size, output_size) : spec.input_size; }
  // `element`: bytes of one, in the storage format of the weights.
  PackedLayout layout(ptrdiff_t layer, ptrdiff_t element) const {
    return packed_layout(info, panels, input_size(layer), state_size, element);
  }
  PackedLayout gradient_layout(ptrdiff_t layer) const {
    return packed_layout(info, panels, input_size(layer) + 1, state_size + needs_hidden_ones(info), sizeof(T));
  }
  ptrdiff_t elements(const PackedLayout& layout) const { return layout.panel() / ptrdiff_t(sizeof(T)) * panels.count; }
  ptrdiff_t part_size(int part) const {
    const Range range = part ? info.recurrent[part - 1] : info.input;
    return panels.count * range.count * panels.units;
  }
  ColumnPanels columns(ptrdiff_t count) const { return {count, kernels<T>().tile_vectors}; }  // of `count` vectors
  ptrdiff_t vectors_of(ptrdiff_t n) const { return (n + lanes - 1) / lanes; }
  ptrdiff_t hidden_vectors() const { return vectors_of(spec.proj_size ? state_size : panels.padded()); }
  // Rows of a projection's output are padded to whole column panels of its gradient.
  ptrdiff_t projection_width() const { return kProjectionVectors * lanes; }
  ptrdiff_t projection_panels() const { return (state_size + projection_width() - 1) / projection_width(); }
  ptrdiff_t projected_row() const {
    return (std::max(panels.padded(), state_size) + projection_width() - 1) / projection_width() * projection_width();
  }
  ptrdiff_t input_vectors(ptrdiff_t layer) const { return vectors_of(input_size(layer)); }
  // Where the state of a layer and direction lies in a row.
  ptrdiff_t h_offset(ptrdiff_t layer, ptrdiff_t direction) const {
    return (layer * spec.directions + direction) * state_size;
  }
  ptrdiff_t c_offset(ptrdiff_t layer, ptrdiff_t direction) const {
    return h_offset(spec.layers, 0) + (layer * spec.directions + direction) * spec.hidden_size;
  }
  template <class S>
  S h_rows(S state, ptrdiff_t layer, ptrdiff_t direction) const {
    return state.data ? S{state.data + h_offset(layer, direction), state.stride} : S{};
  }
  template <class S>
  S c_rows(S state, ptrdiff_t layer, ptrdiff_t direction) const {
    return state.data && info.has_cell ? S{state.data + c_offset(layer, direction), state.stride} : S{};
  }
};

}  // namespace recurra
