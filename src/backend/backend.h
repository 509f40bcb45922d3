// The seam between devices, crossed once per call of a whole recurrent stack or of a plain layer, so that a device
// schedules layers, directions, rows and steps as suits it. Packed weights and tapes are its own; memory is the host's,
// and losses, optimisers, search and some layers call the CPU's kernels directly.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cells/call.h"
#include "platform/memory.h"
#include "simd/call.h"

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
  ptrdiff_t state_size() const { return proj_size ? proj_size : hidden_size; }  // of h
  // Whether the equations are not all that a step does.
  bool has_options(bool training) const {
    return proj_size || peepholes || layer_norm || zoneout > 0 || zoneout_cell > 0 || cell_clip > 0 ||
           (training && recurrent_dropout > 0);
  }
};

// Where a layer's and direction's parameters lie in the flat buffer, PyTorch's shapes and order; -1: not there.
struct RecurrentOffsets {
  ptrdiff_t weight_ih, weight_hh, bias_ih, bias_hh;
  ptrdiff_t weight_hr = -1, weight_peephole = -1;
  ptrdiff_t weight_norm_ih = -1, weight_norm_hh = -1, weight_norm_c = -1, bias_norm_c = -1;
};

// The caller's rows: dense (lengths null) or ragged.
struct Batch {
  ptrdiff_t rows, steps;
  const int64_t* lengths;
  const uint8_t* reset;
  ptrdiff_t reset_row, reset_step;
  ptrdiff_t length(ptrdiff_t row) const { return lengths ? lengths[row] : steps; }
  ptrdiff_t tokens() const {
    if (!lengths) return rows * steps;
    ptrdiff_t n = 0;
    for (ptrdiff_t r = 0; r < rows; ++r) n += lengths[r];
    return n;
  }
  // Where the row's last episode starts; -1 if no episode starts in the row, which goes on from its state then.
  ptrdiff_t last_reset(ptrdiff_t row) const {
    if (!reset) return -1;
    ptrdiff_t step = length(row) - 1;
    while (step >= 0 && !reset[row * reset_row + step * reset_step]) --step;
    return step;
  }
};

// Room for a sequence.
template <class T>
Sequence<T> take_sequence(Arena& memory, ptrdiff_t rows, ptrdiff_t steps, ptrdiff_t features) {
  return {memory.take<T>(size_t(rows * steps * features)), steps * features, features};
}
template <class T>
Sequence<T> take_sequence(Arena& memory, const Batch& batch, ptrdiff_t features, bool time_major = false) {
  if (!time_major) return take_sequence<T>(memory, batch.rows, batch.steps, features);
  return {memory.take<T>(size_t(batch.rows * batch.steps * features)), features, batch.rows * features};
}

// What every call is given: scratch memory, how many threads it may use, and whom to ask whether to go on.
struct Run {
  Arena& arena;
  int threads;
  Stop* stop;
  bool training;
  uint64_t seed;
  bool stopped() const { return stop && stop->requested(); }
  bool poll() const { return stop && stop->poll(); }
};

// A device's copy of a stack's weights, in its own layout; immutable.
template <class T>
class RecurrentWeights {
 public:
  virtual ~RecurrentWeights() = default;
  Arena memory;
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

// What a prepared step is given. A row begins `..._row` elements after the one before it.
template <class T>
struct StepCall {
  const T* x;
  ptrdiff_t x_row;
  T* y;  // null: only the state is wanted
  ptrdiff_t y_row;
  const uint8_t* reset;  // null: none
  ptrdiff_t reset_row;
  int from;  // which of two states goes in; the other one comes out
};

// Single steps of a dense batch, prepared once for a stack, a number of rows and the places of two states: what stays
// the same is laid out, so that a step goes to the kernels at once. It runs on its caller's thread, without dropout,
// and allocates nothing. Not for two threads at once.
template <class T>
class RecurrentStep {
 public:
  virtual ~RecurrentStep() = default;
  virtual void run(const RecurrentWeights<T>&, const StepCall<T>&) = 0;
};
template <class T>
using TwoStates = std::array<StateRows<T>, 2>;

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

// Output step t of a convolution reads the inputs t * stride - left + j * dilation, j = 0 .. kernel - 1. What lies
// outside its row counts as zero, and so does, where an episode starts, what lies on the other side.
struct ConvolutionSpec {
  ptrdiff_t in, out, kernel, stride, dilation, left, right;
  ptrdiff_t span() const { return (kernel - 1) * dilation + 1; }
  ptrdiff_t output_steps(ptrdiff_t steps) const {
    const ptrdiff_t room = left + steps + right - span();
    return room < 0 ? 0 : room / stride + 1;
  }
};

// `past`: the `left` inputs before a row's first step, for rows that go on; data null: zeros.
template <class T>
struct ConvolutionForward {
  const ConvolutionSpec* spec;
  const Batch* batch;  // of x
  const T* packed;     // (kernel * in, out)
  const T* bias;       // null: none
  Sequence<const T> x;
  StateRows<const T> past;
  Sequence<T> y;
};

template <class T>
struct ConvolutionBackward {
  const ConvolutionSpec* spec;
  const Batch* batch;
  const T* packed;  // (out, kernel * in)
  Sequence<const T> x;
  StateRows<const T> past;
  Sequence<const T> dy;
  Sequence<T> dx;               // data null: not wanted
  StateRows<T> dpast;           // added to; data null: not wanted
  T *gradient, *bias_gradient;  // (out, kernel, in), (out; null: none), added to
};

// Functions of every value beyond those of simd/activations.h, numbered behind them: the compiler's own code is enough.
enum FunctionKind { kSqrt = kActivations, kSquare, kExp, kLog, kAbs, kFunctions };

enum class PoolKind { kLast, kMean, kMax };

// One vector from each window of steps (spec: where they lie; in = features): the mean or the maximum of the inputs
// that are there, of the output step's own episode. past, count: the `left` inputs before a row's first step, and how
// many of them, the last ones, are there; data null: none.
template <class T>
struct WindowPool {
  const ConvolutionSpec* spec;
  const Batch* batch;  // of x
  PoolKind kind;
  Sequence<const T> x;
  StateRows<const T> past, count;
};

// Normalisation of every feature by statistics of its own: y = (x - mean) rstd gain + shift.
template <class T>
struct FeatureNorm {
  const T *mean, *rstd, *gain;
};

// Attention of a learnt query: weights = softmax over the steps of v . u, y = the weighted sum of x.
template <class T>
struct Attend {
  ptrdiff_t features, hidden;
  const T* v;
  Sequence<const T> x, u;
  Sequence<T> weights;  // (row, step); one value each
};

template <class T>
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;

  // `transposed`: for backward(), else for forward() and record(). They live in `memory`, which becomes theirs.
  virtual std::unique_ptr<RecurrentWeights<T>> pack(const RecurrentSpec&, const std::vector<RecurrentOffsets>&,
                                                    const T* parameters, bool transposed, int threads,
                                                    Arena memory) const = 0;
  virtual void forward(const Run&, const RecurrentForward<T>&) const = 0;
  virtual std::unique_ptr<RecurrentStep<T>> prepare_step(const RecurrentSpec&, ptrdiff_t rows,
                                                         const TwoStates<T>&) const = 0;
  // The same, keeping in `memory` what backward() needs. y.data must not be null.
  virtual std::unique_ptr<RecurrentTape<T>> record(const Run&, const RecurrentForward<T>&, Arena& memory) const = 0;
  // index: of the layer and direction. False: the tape does not hold all steps, for want of memory.
  virtual bool read_tape(const RecurrentSpec&, const RecurrentTape<T>&, size_t index,
                         const RecurrentActivity<T>&) const = 0;
  virtual TapeBytes tape_bytes(const RecurrentSpec&, const Batch&, bool training) const = 0;
  // Leaves the parameters' gradient in the tape; add_gradient() adds it to the flat buffer.
  virtual void backward(const Run&, const RecurrentBackward<T>&, RecurrentTape<T>&) const = 0;
  virtual void add_gradient(const RecurrentSpec&, const std::vector<RecurrentOffsets>&, const RecurrentTape<T>&,
                            T* gradient, int threads) const = 0;

  // A matrix B (k, columns) as the right side of product(); plain is (columns, k) if `transposed`, else (k, columns).
  virtual ptrdiff_t packed_size(ptrdiff_t k, ptrdiff_t columns) const = 0;
  virtual void pack_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed, T* packed) const = 0;
  // y = x B + bias over all valid (row, step); bias null: none.
  virtual void product(const Run&, const Batch&, ptrdiff_t k, ptrdiff_t columns, const T* packed, const T* bias,
                       Sequence<const T> x, Sequence<T> y) const = 0;
  // gradient (out, in) += sum of dy x^T, bias_gradient (out; null: none) += sum of dy.
  virtual void outer(const Run&, const Batch&, ptrdiff_t in, ptrdiff_t out, Sequence<const T> x, Sequence<const T> dy,
                     T* gradient, T* bias_gradient) const = 0;

  // y = x mask / (1 - p), mask from (seed, stream, row, step, feature) alone, or for all steps that of step 0. x and y
  // may be the same.
  virtual void dropout(const Run&, const Batch&, ptrdiff_t features, double p, uint64_t stream, bool one_mask,
                       Sequence<const T> x, Sequence<T> y) const = 0;
  virtual void zero_padding(const Batch&, ptrdiff_t features, Sequence<T> y) const = 0;

  virtual void convolve(const Run&, const ConvolutionForward<T>&) const = 0;
  virtual void convolve_gradient(const Run&, const ConvolutionBackward<T>&) const = 0;

  // kind: an ActivationKind or FunctionKind.
  virtual void activation(const Run&, const Batch&, ptrdiff_t features, int kind, Sequence<const T> x,
                          Sequence<T> y) const = 0;
  // dx = dy times the derivative at x, where the activation is y. dy and dx may be the same.
  virtual void activation_gradient(const Run&, const Batch&, ptrdiff_t features, int kind, Sequence<const T> x,
                                   Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) const = 0;

  // Every step normalised over its features. `statistics` (row, step): its mean and 1 / sqrt(variance + eps).
  virtual void layer_norm(const Run&, const Batch&, ptrdiff_t features, T eps, const T* gain, const T* shift,
                          Sequence<const T> x, Sequence<T> y, Sequence<T> statistics) const = 0;
  // Adds to dgain and dshift. dx.data null: not wanted.
  virtual void layer_norm_gradient(const Run&, const Batch&, ptrdiff_t features, const T* gain,
                                   Sequence<const T> statistics, Sequence<const T> x, Sequence<const T> dy,
                                   Sequence<T> dx, T* dgain, T* dshift) const = 0;

  // Mean and (biased) variance of each feature over the valid steps, of which there must be some.
  virtual void feature_statistics(const Run&, const Batch&, ptrdiff_t features, Sequence<const T> x, T* mean,
                                  T* variance) const = 0;
  virtual void feature_norm(const Run&, const Batch&, ptrdiff_t features, const FeatureNorm<T>&, const T* shift,
                            Sequence<const T> x, Sequence<T> y) const = 0;
  // `of_batch`: mean and rstd came from this batch, so that they carry gradient too. Adds to dgain and dshift.
  virtual void feature_norm_gradient(const Run&, const Batch&, ptrdiff_t features, const FeatureNorm<T>&, bool of_batch,
                                     Sequence<const T> x, Sequence<const T> dy, Sequence<T> dx, T* dgain,
                                     T* dshift) const = 0;

  // One vector from the valid steps of each row's last episode, zeros where there are none; y and dy have one step.
  virtual void pool(const Run&, const Batch&, ptrdiff_t features, PoolKind, Sequence<const T> x,
                    Sequence<T> y) const = 0;
  virtual void pool_gradient(const Run&, const Batch&, ptrdiff_t features, PoolKind, Sequence<const T> x,
                             Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) const = 0;
  virtual void pool_windows(const Run&, const WindowPool<T>&, Sequence<T> y) const = 0;
  // Adds to dx and dpast; data null: not wanted.
  virtual void pool_windows_gradient(const Run&, const WindowPool<T>&, Sequence<const T> y, Sequence<const T> dy,
                                     Sequence<T> dx, StateRows<T> dpast) const = 0;
  virtual void attend(const Run&, const Batch&, const Attend<T>&, Sequence<T> y) const = 0;
  // du, and adds to dv.
  virtual void attend_gradient(const Run&, const Batch&, const Attend<T>&, Sequence<const T> dy, Sequence<T> du,
                               T* dv) const = 0;
  // dx += what comes by the weighted sum.
  virtual void attend_input_gradient(const Run&, const Batch&, const Attend<T>&, Sequence<const T> dy,
                                     Sequence<T> dx) const = 0;
};

template <class T>
const Backend<T>& cpu_backend();
template <class T>
const Backend<T>& cuda_backend();

// The CPU's instruction sets: which are built, which run here, which one does.
std::vector<std::string> built_isas();
std::vector<std::string> supported_isas();
const char* isa_name();

}  // namespace recurra
