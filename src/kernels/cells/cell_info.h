// A cell as plain data: what packing, loops and devices know of it beside its equations.
#pragma once
#include <stddef.h>

#include "kernels/cells/activation.h"
#include "kernels/cells/list.h"
#include "kernels/gemm/call.h"

namespace recurra {

struct Range {
  int begin, count;
};
RECURRA_ALWAYS_INLINE constexpr bool has(Range range, int i) {
  return i >= range.begin && i < range.begin + range.count;
}

// A unit has `groups` columns in a product's tile. The input feeds the columns of `input`, the operand of stage i those
// of `recurrent[i]`; the operand of stage 0 is h of the previous step. Gates are the row blocks of PyTorch's weights.
// In a cell without stages the gates see no product of the state: it has no weight_hh and bias_hh.
struct CellInfo {
  const char* name;
  int gates;
  int groups;
  int saved;      // values per unit and step that BPTT reads
  bool has_cell;  // the LSTM's c
  int stages;
  Range input;
  Range recurrent[2];
  signed char input_gate[4];      // the block of weight_ih and bias_ih that feeds each column; -1: none
  signed char recurrent_gate[4];  // the block of weight_hh and bias_hh
  CellFunctions own = {};         // activations; kNone where a call cannot choose another
  bool scanned = false;           // runs in the loops of kernels/cells/scan_forward.h and scan_backward.h; these only:
  int vectors = 0;                // parameters of one number a unit
  bool reads_input = false;       // the equations read x as it is, which has as many features as there are units
  int biased[2] = {4, 4};         // so many blocks of weight_ih and of weight_hh have a bias, the first ones
};
RECURRA_ALWAYS_INLINE constexpr bool needs_hidden_ones(const CellInfo& cell) {
  return cell.input.count < cell.groups;  // some biases have no column in the input's product
}

// A cell's place in RECURRA_CELLS.
enum CellKind : int {};
#define RECURRA_ONE_MORE(name) +1
constexpr int kCellKinds = 0 RECURRA_CELLS(RECURRA_ONE_MORE);
#undef RECURRA_ONE_MORE

}  // namespace recurra
