// The calls that cross the border between the code compiled once and the code compiled per ISA: plain structs of
// pointers. Letters: N rows (sequences), T steps, I inputs, H hidden units.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "kernels/cells/cell_options.h"
#include "kernels/cells/scan_call.h"
#include "kernels/cells/sequence.h"
#include "platform/barrier.h"
#include "platform/caches.h"
#include "platform/parallel.h"

namespace recurra {

template <class T>
struct CellKernels;

// Threads that share the panels of one call and meet after every step. {}: a single thread.
struct Team {
  int member, members;
  SpinBarrier* barrier;
  void* scratch;  // the first member's, which holds the state of all
};

// One direction of one layer for the sorted rows [first, last), steps [begin, end). If begin > 0, h0 and c0 are the
// state that enters step `begin`, of the rows that still run there, and the tape begins at that step.
template <class T>
struct ForwardCall {
  const CellKernels<T>* cell;
  Panels panels;
  ptrdiff_t input_size, hidden_size;
  const PackedWeights<T>* weights;
  Rows rows;
  Direction direction;
  ptrdiff_t first, last;
  ptrdiff_t begin, end;
  ptrdiff_t steps_before;  // of a stream; only its parity matters: steps walk the panels up and down in turns
  CellOptions<T> options;
  Sequence<const T> x;
  Sequence<T> y;  // data null: only the final state is wanted
  StateRows<const T> h0, c0;
  StateRows<T> hn, cn;
  T* saved;  // the tape, [step][panel][row][saved][units]; null: nothing is recorded
  T* cells;  // [step][panel][row][units]
  T* norms;  // [step][row][norm_row], only with layer norm
  Caches caches;
  T* scratch;
  bool planned;  // the scratch holds the plan of an earlier call with the same shape and options
  Team team;
  Stop* stop;  // null: do not poll
  // Whether the weights come from beyond the second-level cache at every step.
  RECURRA_ALWAYS_INLINE bool far() const { return caches.far(panels.count * weights->layout.panel()); }
};

// Backward over one block of steps [begin, end) of the same rows. The gate gradients go into a ring of `ring_rows`
// rows, those of step s at rows slot[s] and after. The operands that they multiply in the weights' gradient go beside
// them, transposed.
template <class T>
struct BackwardCall {
  const CellKernels<T>* cell;
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
  T* carry;        // [panel][row][units] gradient that reaches h of the previous step other than through a product
  T* dc;           // [panel][row][units]
  T* gates;        // the ring: [panel][strip][ring row][columns of a strip]
  T* operands[3];  // [tile of rows of the weights][ring row][row]; for an outer product [column panel][ring
                   // row][column]
  bool outer;
  // For options, beside the gates:
  T* input_gates;  // as gates, where the gradient of the input's product differs: with layer norm
  // [panel][unit row][gradient_size]: the gradient of the unit vectors. Each group of rows sums into one unit row; the
  // groups of step s begin at unit_slot[s].
  T* unit_sums;
  const int64_t* unit_slot;
  ptrdiff_t unit_rows;
  T* projected;  // [ring row][projected_row]: the gradient of the projection's output
  ptrdiff_t projected_row;
  T* zone_carry;  // [row][projected_row]: the gradient that zoneout passes to h of the previous step
  // (caller's row, time): the norm of the whole gradient of h; data null: not wanted. Needs options.any, or a cell
  // without stages.
  Sequence<double> gradient_norms;
  const int64_t* slot;
  ptrdiff_t ring_rows;
  Caches caches;
  T* scratch;
  Stop* stop;
};

// Vectors of columns in a panel of a projection's gradient.
constexpr int kProjectionVectors = 2;

// Rows [begin, begin + count) of the ring.
struct RingRun {
  ptrdiff_t begin, count;
};

// Adds operand^T gates over a block to one strip of the packed gradient: part 0, 1 or 2 of the layout, weight-row tiles
// [first, last).
template <class T>
struct GradientCall {
  const T* operand;
  const T* gates;  // of the strip and the part's first column
  ptrdiff_t gates_row;
  ptrdiff_t ring_rows;
  const RingRun* runs;
  ptrdiff_t run_count;
  ptrdiff_t rows, width;
  ptrdiff_t first, last;
  T* out;
};

}  // namespace recurra
