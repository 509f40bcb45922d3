// What crosses the border between the code compiled once and the code compiled per ISA: plain structs of pointers.
// Letters: N rows (sequences), T steps, I inputs, H hidden units; rows are sorted by descending length, so that the
// rows still running at a step are the first ones.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "kernels/cells/list.h"
#include "kernels/gemm/call.h"
#include "platform/barrier.h"
#include "platform/parallel.h"

namespace recurra {

struct Range {
  int begin, count;
};
RECURRA_ALWAYS_INLINE constexpr bool has(Range range, int i) {
  return i >= range.begin && i < range.begin + range.count;
}

// A cell as plain data. A unit has `groups` columns in a product's tile; the input feeds those of `input`, the operand
// of stage i those of `recurrent[i]` (stage 0: h of the step before). Gates are the row blocks of PyTorch's weights.
// Without stages the gates do not see the state: such a cell has no weight_hh and bias_hh, and the loops of
// kernels/cells/scan.h.
struct CellInfo {
  const char* name;
  int gates;
  int groups;
  int saved;      // values per unit and step that BPTT needs again
  bool has_cell;  // the LSTM's c
  int stages;
  Range input;
  Range recurrent[2];
  signed char input_gate[4];      // which block of weight_ih, bias_ih feeds a column; -1: none
  signed char recurrent_gate[4];  // which block of weight_hh, bias_hh
};

// A cell's place in RECURRA_CELLS.
enum CellKind : int {};
#define RECURRA_ONE_MORE(name) +1
constexpr int kCellKinds = 0 RECURRA_CELLS(RECURRA_ONE_MORE);
#undef RECURRA_ONE_MORE

// Element (row, step, 0) is at data[row * row_stride + step * step_stride].
template <class T>
struct Sequence {
  T* data;
  ptrdiff_t row_stride, step_stride;
  RECURRA_ALWAYS_INLINE T* at(ptrdiff_t row, ptrdiff_t step) const {
    return data + row * row_stride + step * step_stride;
  }
};

// Rows of a state: element (row, 0) at data[row * stride]; null stands for zeros.
template <class T>
struct StateRows {
  T* data;
  ptrdiff_t stride;
  RECURRA_ALWAYS_INLINE T* at(ptrdiff_t row) const { return data + row * stride; }
};

template <class T>
RECURRA_ALWAYS_INLINE Sequence<const T> read_only(Sequence<T> s) {
  return {s.data, s.row_stride, s.step_stride};
}
template <class T>
RECURRA_ALWAYS_INLINE StateRows<const T> read_only(StateRows<T> s) {
  return {s.data, s.stride};
}

// A panel is `units` hidden units with all their columns side by side: packed weights, tiles, tapes and gate gradients
// all have rows of groups * units, so what a tile leaves behind is what the cell's equations take.
struct Panels {
  ptrdiff_t units;    // per panel
  ptrdiff_t count;    // ceil(H / units)
  ptrdiff_t columns;  // groups * units
  RECURRA_ALWAYS_INLINE ptrdiff_t padded() const { return units * count; }
};

// The packed weights of a direction: per panel [bias: columns][input: I rows][stage 0: H rows][stage 1: H rows].
// The gradient has the same layout with one more input row, the ones' (the bias gradient), and where the cell has
// columns that the input does not feed, one more row of ones in stage 0.
struct PackedLayout {
  ptrdiff_t rows[3];    // input, stage 0, stage 1
  ptrdiff_t width[3];   // elements in a row
  ptrdiff_t offset[3];  // in a panel
  ptrdiff_t panel;      // elements in a panel
};
RECURRA_ALWAYS_INLINE PackedLayout packed_layout(const CellInfo& cell, const Panels& panels, ptrdiff_t input_rows,
                                                 ptrdiff_t hidden_rows) {
  PackedLayout p = {};
  p.panel = panels.columns;
  const Range ranges[3] = {cell.input, cell.recurrent[0], cell.recurrent[1]};
  for (int i = 0; i < 3 && i <= cell.stages; ++i) {
    p.rows[i] = i ? hidden_rows : input_rows;
    p.width[i] = ranges[i].count * panels.units;
    p.offset[i] = p.panel;
    p.panel += p.rows[i] * p.width[i];
  }
  return p;
}
RECURRA_ALWAYS_INLINE bool needs_hidden_ones(const CellInfo& cell) { return cell.input.count < cell.groups; }

struct Rows {
  const int32_t* batch;   // [N] the caller's row
  const int32_t* length;  // [N] descending
  const int32_t* active;  // [steps + 1] rows with a length > s
  const int64_t* offset;  // [steps] active[0] + ... + active[s - 1]
  ptrdiff_t steps;        // the largest length
  const uint8_t* reset;   // (caller's row, time); null: none
  ptrdiff_t reset_row, reset_step;
};

// A direction sees time `time(r, s)` at its step s.
struct Direction {
  bool reverse;
  RECURRA_ALWAYS_INLINE ptrdiff_t time(const Rows& rows, ptrdiff_t r, ptrdiff_t s) const {
    return reverse ? rows.length[r] - 1 - s : s;
  }
  // Whether the state that enters step s is dropped. A boundary lies before the step that is marked, whichever way it
  // is crossed; the reverse direction's first step has nothing behind it.
  RECURRA_ALWAYS_INLINE bool cut(const Rows& rows, ptrdiff_t r, ptrdiff_t s) const {
    if (!rows.reset || (reverse && s == 0)) return false;
    return rows.reset[rows.batch[r] * rows.reset_row + (time(rows, r, s) + reverse) * rows.reset_step];
  }
};

// The vectors that options multiply unit by unit, per panel: in the packed weights first those with a value per unit,
// then those with one per column; their gradient is summed in the same layout with one column vector more, the biases'.
struct UnitVectors {
  int units;    // three peepholes, or none, then the gain and the bias of the cell's norm, or neither
  int columns;  // the gains of the input's and the recurrent product's norm, or neither
  bool peepholes;
  RECURRA_ALWAYS_INLINE ptrdiff_t cell_norm(const Panels& panels) const { return (peepholes ? 3 : 0) * panels.units; }
  RECURRA_ALWAYS_INLINE ptrdiff_t column(const Panels& panels, int i) const {
    return units * panels.units + i * panels.columns;
  }
  RECURRA_ALWAYS_INLINE ptrdiff_t size(const Panels& panels) const { return column(panels, columns); }
  RECURRA_ALWAYS_INLINE ptrdiff_t gradient_size(const Panels& panels) const {
    return (column(panels, columns ? columns + 1 : 0) + 15) / 16 * 16;  // whole vectors
  }
};
RECURRA_ALWAYS_INLINE UnitVectors unit_vectors(const CellInfo& cell, bool peepholes, bool normalised) {
  return {(peepholes ? 3 : 0) + (normalised && cell.has_cell ? 2 : 0), normalised ? 2 : 0, peepholes};
}
// A row of `norms`: both normalised products, then what each was multiplied with.
RECURRA_ALWAYS_INLINE ptrdiff_t norm_row(const Panels& panels) { return 2 * panels.count * panels.columns + 16; }

// What the plain cell has not, the same for a whole call; most of it can be left out.
template <class T>
struct CellOptions {
  bool any;
  ptrdiff_t state_size;  // of h: hidden_size, or less behind a projection
  UnitVectors vectors;
  const T* unit_weights;  // [panel][vectors]
  ptrdiff_t group;        // rows whose parts of the vectors' gradient are added up at once
  T clip;                 // infinity: none
  // Whether h' = W_hr o tanh(c'); W_hr packed as a product's right side, for backward() transposed.
  bool projected;
  const T* projection;
  const T* recurrent_mask;  // [caller's row][mask_row], times h in front of every product; null: none
  ptrdiff_t mask_row;
  // Of h and of c: how much of the old state stays, or (random) the chance that all of it does.
  struct Zone {
    T rate;
    bool random;
    uint64_t key;
    uint32_t last;
  } zone_h, zone_c;
  RECURRA_ALWAYS_INLINE bool normalised() const { return vectors.columns > 0; }
};

// Threads that share the panels of one call, and meet after every step. Alone: {}.
struct Team {
  int member, members;
  SpinBarrier* barrier;
  void* scratch;  // the first member's, where all find the state
};

// One direction of one layer for the sorted rows [first, last), steps [begin, end). Beyond step 0 h0 and c0 are the
// state that enters `begin`, of the rows that run on there; the tape begins at that step.
template <class T>
struct ForwardCall {
  Panels panels;
  PackedLayout layout;
  ptrdiff_t input_size, hidden_size;
  const T* weights;
  Rows rows;
  Direction direction;
  ptrdiff_t first, last;
  ptrdiff_t begin, end;
  ptrdiff_t steps_before;  // of a stream: whether this call's first step is an odd one
  CellOptions<T> options;
  Sequence<const T> x;
  Sequence<T> y;  // data null: only the final state is wanted
  StateRows<const T> h0, c0;
  StateRows<T> hn, cn;
  T* saved;  // the tape, [step][panel][row][saved][units]; null: none is kept
  T* cells;  // [step][panel][row][units]
  T* norms;  // [step][row][norm_row] of a normalised cell
  T* scratch;
  bool planned;  // a call of the same shape and options has left its plan in the scratch
  Team team;
  Stop* stop;  // null: do not poll
};

// One block of steps [begin, end) of the same, backwards: gate gradients into a ring of `ring_rows` rows, step s at
// rows slot[s] and after, and beside them the operands they multiply, transposed, for the weights' gradient.
template <class T>
struct BackwardCall {
  Panels panels;
  ptrdiff_t input_size, hidden_size;
  const T* hidden_weights[2];  // per stage [column panel][panel][column][units]
  const T* input_weights;      // the same towards the inputs; null: no dx
  CellOptions<T> options;
  Rows rows;
  Direction direction;
  ptrdiff_t first, last;
  ptrdiff_t begin, end;
  ptrdiff_t tape_begin;  // the first step on the tape; h0 and c0 are the state that enters it
  Sequence<const T> x, h;
  Sequence<const T> dy;  // data null: none
  Sequence<T> dx;
  bool add_dx;
  StateRows<const T> h0, c0, dhn, dcn;
  StateRows<T> dh0, dc0;  // written by the block that begins at 0
  const T* saved;
  const T* cells;
  const T* norms;
  T* carry;        // [panel][row][units] gradient that reaches h of the step before other than through a product
  T* dc;           // [panel][row][units]
  T* gates;        // the ring: [panel][ring row][columns]
  T* operands[3];  // [tile of rows of the weights][ring row][row]
  // For options, beside the gates:
  T* input_gates;  // where the input's differ, as gates
  // [panel][unit row][gradient_size]: summed, the gradient of the unit vectors. Groups of rows share a unit row; those
  // of step s begin at unit_slot[s].
  T* unit_sums;
  const int64_t* unit_slot;
  ptrdiff_t unit_rows;
  T* projected;  // [ring row][projected_row]: the gradient of what a projection gave
  ptrdiff_t projected_row;
  T* zone_carry;  // [row][projected_row]: what zoneout passes by
  // (caller's row, time): the norm of h's whole gradient; data null: not wanted. With options.any, or a cell without
  // stages.
  Sequence<double> gradient_norms;
  const int64_t* slot;
  ptrdiff_t ring_rows;
  T* scratch;
  Stop* stop;
};

// The columns of a projection's gradient are taken by so many vectors.
constexpr int kProjectionVectors = 2;

// Rows [begin, end) of a block, contiguous in the ring.
struct RingRun {
  ptrdiff_t begin, count;
};

// Adds operand^T gates over a block to one panel of the packed gradient: part 0, 1 or 2 of the layout, weight-row tiles
// [first, last).
template <class T>
struct GradientCall {
  const T* operand;
  const T* gates;  // of the panel and the part's first column
  ptrdiff_t gates_row;
  ptrdiff_t ring_rows;
  const RingRun* runs;
  ptrdiff_t run_count;
  ptrdiff_t rows, width;
  ptrdiff_t first, last;
  T* out;
};

}  // namespace recurra
