// A cell's row of the table, from its equations.
#pragma once
#include "kernels/cells/backward.h"
#include "kernels/cells/forward.h"
#include "kernels/cells/scan_backward.h"
#include "kernels/cells/scan_cell.h"
#include "kernels/cells/scan_forward.h"
#include "kernels/cells/table.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class T>
Panels panels_of(const CellInfo& cell, ptrdiff_t hidden_size) {
  constexpr ptrdiff_t L = kLanes<T>;
  // As many vectors of each column as fit a tile, spread evenly.
  const ptrdiff_t vectors = (hidden_size + L - 1) / L,
                  most = kTileVectors > cell.groups ? kTileVectors / cell.groups : 1;
  const ptrdiff_t count = (vectors + most - 1) / most;
  ptrdiff_t units = L * ((vectors + count - 1) / count);
  // The four columns of a half panel still fill whole vectors. They serve sizes that would leave half a vector or more
  // empty.
  if (const ptrdiff_t rest = hidden_size % L; has_half_panels(cell) && rest > 0 && rest <= L / 2) units = L / 2;
  return {units, (hidden_size + units - 1) / units, cell.groups * units, strips_of(cell)};
}

template <class Cell, class T>
constexpr CellKernels<T> kernels_of() {
  if constexpr (Cell::kInfo.scanned)
    return {&Cell::kInfo,    panels_of<T>,     scan_forward_scratch<T>, scan_backward_scratch<T>,
            scan_forward<T>, scan_backward<T>, kScanCell<Cell, T>};
  else
    return {&Cell::kInfo, panels_of<T>, forward_scratch<T>, backward_scratch<T>, forward<Cell, T>, backward<Cell, T>};
}

}  // namespace

// One pair of files a cell; table.cpp lists them.
#define RECURRA_CELL(name, Cell)                                   \
  extern const CellKernels<float> name##_f32;                      \
  extern const CellKernels<double> name##_f64;                     \
  const CellKernels<float> name##_f32 = kernels_of<Cell, float>(); \
  const CellKernels<double> name##_f64 = kernels_of<Cell, double>()

}  // namespace recurra::RECURRA_ISA
