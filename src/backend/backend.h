// The seam between devices. It is crossed once per call of a whole recurrent stack, or of a plain layer, so that a
// device schedules layers, directions, rows and steps as suits it. Nothing above knows where memory lives or how
// weights are packed.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cells/call.h"
#include "platform/memory.h"

namespace recurra {

struct RecurrentSpec {
  CellKind cell;
  ptrdiff_t input_size, hidden_size, layers, directions;
  bool bias;
  double dropout;  // between layers
  // Options, 0 or false: none.
  ptrdiff_t proj_size;
  bool peepholes, layer_norm;
  double input_dropout, recurrent_dropout;  // one mask a sequence
  double zoneout, zoneout_cell, cell_clip;
  ptrdiff_t state_size() const { return proj_size ? proj_size : hidden_size; }  // of h
  // Whether the equations are not all that a step does.
  bool has_options(bool training) const {
    return proj_size || peepholes || layer_norm || zoneout > 0 || zoneout_cell > 0 || cell_clip > 0 ||
           (training && recurrent_dropout > 0);
  }
};

// Where a layer's and direction's parameters lie in the flat buffer, PyTorch's shapes and order; -1: not there.
struct RecurrentOffsets {
  ptrdiff_t weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, weight_peephole, weight_norm_ih, weight_norm_hh,
      weight_norm_c, bias_norm_c;
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
};

// What every call is given: scratch memory, how many threads it may use, and whom to ask whether to go on.
struct Run {
  Arena& arena;
  int threads;
  Stop* stop;
  bool training;
  uint64_t seed;
  bool stopped() const { return stop && stop->requested(); }
};

// A device's copy of a stack's weights, in its own layout; immutable.
template <class T>
class RecurrentWeights {
 public:
  virtual ~RecurrentWeights() = default;
};

// What a recorded forward of a stack keeps for its backward, in the tape's memory.
template <class T>
class RecurrentTape {
 public:
  virtual ~RecurrentTape() = default;
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
  const Batch* batch;
  Sequence<const T> dy;  // data null: none
  Sequence<T> dx;        // data null: not wanted
  StateRows<const T> state, dfinal;
  StateRows<T> dstate;
};

template <class T>
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;

  // `transposed`: for backward(), else for forward() and record().
  virtual std::shared_ptr<const RecurrentWeights<T>> pack(const RecurrentSpec&, const std::vector<RecurrentOffsets>&,
                                                          const T* parameters, bool transposed, int threads) const = 0;
  virtual void forward(const Run&, const RecurrentForward<T>&) const = 0;
  virtual std::unique_ptr<RecurrentStep<T>> prepare_step(const RecurrentSpec&, ptrdiff_t rows,
                                                         const TwoStates<T>&) const = 0;
  // The same, keeping in `memory` what backward() needs. y.data must not be null.
  virtual std::unique_ptr<RecurrentTape<T>> record(const Run&, const RecurrentForward<T>&, Arena& memory) const = 0;
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
