// What the loops of kernels/cells/scan_forward.h and scan_backward.h hand to a cell's equations: pointers and numbers
// alone, as the equations may also come from a library that was compiled while the program runs.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace recurra {

// Bounds on a cell that runs in these loops.
constexpr int kScanColumns = 4, kScanVectors = 12, kScanSaved = 12;

// Successive steps of a row. Pointers are to unit 0 of the whole row, but for `pre`.
template <class T>
struct ScanRow {
  ptrdiff_t steps;
  const T* pre;          // the panel's pre-activations at the first step
  const T* x;            // for cells that read x as it is
  const T *h, *c;        // the state that enters; null: zeros
  T *h_out, *c_out;      // the state that leaves, which may lie at the same place
  T* y;                  // null: only the state is wanted
  const uint8_t* reset;  // whether the state is dropped before a step; null: never
  int64_t place;         // a step's place on the tape is offset[step] + place
};

// Forward: rows of one panel.
template <class T>
struct ScanForwardCall {
  const ScanRow<T>* rows;
  ptrdiff_t count;
  ptrdiff_t first, units, left;  // the panel's first unit, its units, and the units from there to the end of h
  ptrdiff_t pre_step, x_step, y_step, reset_step;
  bool keeps_first;  // nothing is dropped before a row's first step
  const T* vectors;  // [vector][units]
  T *saved, *cells;  // the panel's values for BPTT at place 0; null: nothing is recorded
  ptrdiff_t saved_row, cells_row;
  const int64_t* offset;
};

// A row at one step, backward. Pointers are to unit 0, or to panel 0 where there are panels.
template <class T>
struct ScanGradientRow {
  const T *x, *h, *c, *c_new;               // x and the state that entered the step, c that left it; null: zeros
  const T* saved;                           // [panel][saved][units]
  const T *dy, *later, *later_c, *product;  // gradients of y, of the final state, of h through a product; null: none
  bool fresh, cut, first_of_sum;            // the row ends here; no state entered; the vectors' sums begin here
  T *gates, *carry, *dc, *sums, *dx, *dh;   // dx and dh may be null: not wanted
};

template <class T>
struct ScanBackwardCall {
  const ScanGradientRow<T>* rows;
  ptrdiff_t count;
  ptrdiff_t panels, units, hidden_size;
  ptrdiff_t column[kScanColumns], gates_panel, carry_panel, sums_panel;
  const T* vectors;  // [panel][vector][units]
  ptrdiff_t vectors_panel;
  bool add_dx;
};

// A cell's equations over these calls.
template <class T>
struct ScanCell {
  void (*forward)(const ScanForwardCall<T>&);
  void (*backward)(const ScanBackwardCall<T>&);
};

}  // namespace recurra
