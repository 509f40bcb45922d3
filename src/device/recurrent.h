// Recurrent stacks as a device runs them: layers, directions, rows and steps in one call.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "device/batch.h"

namespace recurra {

struct RecurrentSpec {
  CellKind cell;
  ptrdiff_t input_size, hidden_size, layers, directions;
  bool bias;
  double dropout;  // between layers
  // Options, 0 or false: none.
  ptrdiff_t proj_size = 0;
  bool peepholes = false, layer_norm = false;
  double input_dropout = 0, recurrent_dropout = 0;  // one mask a sequence
  double zoneout = 0, zoneout_cell = 0, cell_clip = 0;
  CellActivations<double> activations = {};                                     // where they are not the cell's own
  ptrdiff_t state_size() const { return proj_size ? proj_size : hidden_size; }  // of h
  // Whether the equations are not all that a step does.
  bool has_options(bool training) const {
    return proj_size || peepholes || layer_norm || zoneout > 0 || zoneout_cell > 0 || cell_clip > 0 ||
           any_chosen(activations) || (training && recurrent_dropout > 0);
  }
};

// Where a layer's and direction's parameters lie in the flat buffer, PyTorch's shapes and order; -1: not there.
struct RecurrentOffsets {
  ptrdiff_t weight_ih, weight_hh, bias_ih, bias_hh;
  ptrdiff_t weight_hr = -1, weight_peephole = -1;
  ptrdiff_t weight_norm_ih = -1, weight_norm_hh = -1, weight_norm_c = -1, bias_norm_c = -1;
};

// A device's copy of a stack's weights, in its own layout and a storage format; immutable. Whoever computes with it
// need not know which.
template <class T>
class RecurrentWeights {
 public:
  virtual ~RecurrentWeights() = default;
  Arena memory;
};

// One of a device's storage formats of weights: Device::storage() knows their names.
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

// What a recorded forward of a stack keeps for its backward, in the tape's memory.
template <class T>
class RecurrentTape {
 public:
  virtual ~RecurrentTape() = default;
  // [layer, direction][row][step]: where backward() shall write the norm of the gradient of h; null: nowhere.
  double* gradient_norms = nullptr;
};

// What a recorded forward did, one layer and direction: h, what the cell kept beside it (CellInfo::saved values of each
// unit), and c (data null: there is none). Only valid steps are written. order: the row where a row of the tape goes;
// null: the same.
template <class T>
struct RecurrentActivity {
  Sequence<T> h, saved, c;
  const int32_t* order;
};

// What happens between the steps of a stack of one layer and direction whose input depends on its own past: attention.
// Rows [first, first + count) are at that step; backwards, steps come last first. Rows must come in order of descending
// lengths; calls for different rows may run side by side.
template <class T>
class StepHook {
 public:
  virtual ~StepHook() = default;
  virtual void before_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) = 0;
  virtual void after_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) = 0;
};

// Of a tape's memory: what a recorded forward takes with all that its backward adds, and where backward makes as much
// as it can again.
struct TapeBytes {
  size_t all, least;
};

// A state's row: h of all layers and directions, then for the LSTM c of the same.
template <class T>
struct RecurrentForward {
  const RecurrentSpec* spec;
  const RecurrentWeights<T>* weights;
  const Batch* batch;
  Sequence<const T> x;
  Sequence<T> y;  // data null: only the state is wanted
  StateRows<const T> state;
  StateRows<T> final_state;
  StepHook<T>* hook = nullptr;     // writes a step's x before it
  size_t tape_bytes = size_t(-1);  // that a tape may take, least of tape_bytes() or more
};

// What a prepared step is given: at most as many rows as it was prepared for. A row begins `..._row` elements after the
// one before it.
template <class T>
struct StepCall {
  ptrdiff_t rows;
  const T* x;
  ptrdiff_t x_row;
  T* y;  // null: only the state is wanted
  ptrdiff_t y_row;
  const uint8_t* reset;  // null: none
  ptrdiff_t reset_row;
  StateRows<const T> state;
  StateRows<T> final_state;  // elsewhere than `state`
};

// Single steps of a dense batch, prepared once for a stack and a largest number of rows: what stays the same is laid
// out, so that a step goes to the kernels at once. It runs on its caller's thread, without dropout, and allocates
// nothing. Not for two threads at once.
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
  const RecurrentWeights<T>* forward_weights;  // for a tape that does not hold all
  const Batch* batch;
  Sequence<const T> dy;  // data null: none
  Sequence<T> dx;        // data null: not wanted
  StateRows<const T> state, dfinal;
  StateRows<T> dstate;
  StepHook<T>* hook = nullptr;  // writes a step's dy before it, reads its dx after it
};

}  // namespace recurra
