// Recurrent stacks as a device runs them: layers, directions, rows and steps in one call.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "device/batch.h"
#include "device/own_cell.h"
#include "kernels/cells/cell_info.h"

namespace recurra {

struct RecurrentSpec {
  CellKind cell;  // or `own`
  ptrdiff_t input_size, hidden_size, layers, directions;
  bool bias;
  double dropout;  // between layers
  // Options; 0 or false is off.
  ptrdiff_t proj_size = 0;
  bool peepholes = false, layer_norm = false;
  double input_dropout = 0, recurrent_dropout = 0;  // one mask per sequence
  double zoneout = 0, zoneout_cell = 0, cell_clip = 0;
  CellActivations<double> activations = {};  // if not the cell's defaults
  std::shared_ptr<const OwnCell> own = {};
  ptrdiff_t state_size() const { return proj_size ? proj_size : hidden_size; }  // of h
  // `device`: which knows the cells that are built in.
  template <class D>
  const CellInfo& info(const D& device) const {
    return own ? own->info : device.cell(cell);
  }
  // Whether a step does more than the cell's plain equations.
  bool has_options(bool training) const {
    return proj_size || peepholes || layer_norm || zoneout > 0 || zoneout_cell > 0 || cell_clip > 0 ||
           any_chosen(activations) || (training && recurrent_dropout > 0);
  }
};

// Offsets of a layer's and direction's parameters in the flat buffer, with PyTorch's shapes and order; -1: absent.
struct RecurrentOffsets {
  ptrdiff_t weight_ih, weight_hh, bias_ih, bias_hh;
  ptrdiff_t weight_hr = -1, weight_peephole = -1;
  ptrdiff_t weight_norm_ih = -1, weight_norm_hh = -1, weight_norm_c = -1, bias_norm_c = -1;
};

// A device's copy of a stack's weights, in the device's layout and a storage format that callers need not know;
// immutable.
template <class T>
class RecurrentWeights {
 public:
  virtual ~RecurrentWeights() = default;
  Arena memory;
};

// A device's storage format of weights; Device::storage() finds it by name.
enum StorageKind : int { kOwnStorage };  // that of the parameters

template <class T>
struct RecurrentPacking {
  const RecurrentSpec* spec;
  const std::vector<RecurrentOffsets>* offsets;  // [layer, direction]
  const T* parameters;
  bool transposed;  // for backward(), else for forward() and record()
  int threads;
  StorageKind storage = kOwnStorage;  // of matrices; must be the parameters' own for backward()
};

// The saved values of a stack's recorded forward, in the tape's memory; after backward, the parameters' gradient too.
template <class T>
class RecurrentTape {
 public:
  virtual ~RecurrentTape() = default;
  // [layer, direction][row][step]: backward() writes the norm of the gradient of h here, unless null.
  double* gradient_norms = nullptr;
};

// The activity of one layer and direction in a recorded forward: h, the cell's saved values (CellInfo::saved for each
// unit), and c (data null: none). Only valid steps are written. order: the destination of each row of the tape; null:
// the same row.
template <class T>
struct RecurrentActivity {
  Sequence<T> h, saved, c;
  const int32_t* order;
};

// Called before and after each step of a stack of one layer and direction whose input depends on its own past, as with
// attention. Rows [first, first + count) are at `step`; backward runs the steps in reverse. Rows must be sorted by
// descending length; calls for different rows may run concurrently.
template <class T>
class StepHook {
 public:
  virtual ~StepHook() = default;
  virtual void before_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) = 0;
  virtual void after_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) = 0;
};

// The memory of a tape, backward included: if all steps are saved, and the least, if backward recomputes what it can.
struct TapeBytes {
  size_t all, least;
};

// A row of the state holds h of all layers and directions, then for the LSTM c of the same.
template <class T>
struct RecurrentForward {
  const RecurrentSpec* spec;
  const RecurrentWeights<T>* weights;
  const Batch* batch;
  Sequence<const T> x;
  Sequence<T> y;  // data null: only the final state is wanted
  StateRows<const T> state;
  StateRows<T> final_state;
  StepHook<T>* hook = nullptr;     // writes a step's x before it
  size_t tape_bytes = size_t(-1);  // bound on the tape's memory; at least `least` of tape_bytes()
};

// The arguments of a prepared step, for at most the rows that it was prepared for. `x_row`, `y_row` and `reset_row` are
// strides in elements.
template <class T>
struct StepCall {
  ptrdiff_t rows;
  const T* x;
  ptrdiff_t x_row;
  T* y;  // null: only the new state is wanted
  ptrdiff_t y_row;
  const uint8_t* reset;  // null: none
  ptrdiff_t reset_row;
  StateRows<const T> state;
  StateRows<T> final_state;  // must not overlap `state`
};

// Single steps of a dense batch, prepared once for a stack and a maximum number of rows, so that a step calls the
// kernels directly. Runs on the calling thread, without dropout or allocation. Not thread-safe.
template <class T>
class RecurrentStep {
 public:
  virtual ~RecurrentStep() = default;
  virtual void run(const RecurrentWeights<T>&, const StepCall<T>&) = 0;
};

template <class T>
struct RecurrentBackward {
  const RecurrentSpec* spec;
  const RecurrentWeights<T>* weights;
  const RecurrentWeights<T>* forward_weights;  // to recompute steps that the tape does not hold
  const Batch* batch;
  Sequence<const T> dy;  // data null: none
  Sequence<T> dx;        // data null: not wanted
  StateRows<const T> state, dfinal;
  StateRows<T> dstate;
  Arena* memory;                // for the parameters' gradient; what is on the tape is only read
  StepHook<T>* hook = nullptr;  // writes a step's dy before it, reads its dx after it
};

}  // namespace recurra
