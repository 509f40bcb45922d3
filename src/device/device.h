// The interface of devices. A call runs a whole recurrent stack or a plain layer, so that a device schedules layers,
// directions, rows and steps as it likes. Packed weights and tapes are opaque. Layers, losses, optimisers, programs and
// searches access memory and operations only through it; see docs/architecture.md.
#pragma once
#include <memory>
#include <vector>

#include "device/attention.h"
#include "device/losses.h"
#include "device/ops.h"
#include "device/optim.h"
#include "device/recurrent.h"

namespace recurra {

template <class T>
class Device {
 public:
  virtual ~Device() = default;
  virtual const char* name() const = 0;
  virtual const CellInfo& cell(CellKind) const = 0;

  // A storage format of weights by its name; throws std::invalid_argument if this build lacks it.
  virtual StorageKind storage(const std::string& name) const = 0;
  // The weights take `memory` over.
  virtual std::unique_ptr<RecurrentWeights<T>> pack(const RecurrentPacking<T>&, Arena memory) const = 0;
  virtual void forward(const Run&, const RecurrentForward<T>&) const = 0;
  // For batches of at most `rows` rows.
  virtual std::unique_ptr<RecurrentStep<T>> prepare_step(const RecurrentSpec&, ptrdiff_t rows) const = 0;
  // forward() that saves in the tape what backward() needs. y.data must not be null.
  virtual void record(const Run&, const RecurrentForward<T>&, RecurrentTape<T>&) const = 0;
  // Takes the arrays of a tape for record() of the call. Reads nothing but sizes and lengths.
  virtual std::unique_ptr<RecurrentTape<T>> take_tape(const RecurrentForward<T>&, bool training, Memory&) const = 0;
  // `index` is that of the layer and direction. False if the tape has a memory budget and does not hold all steps.
  virtual bool read_tape(const RecurrentSpec&, const RecurrentTape<T>&, size_t index,
                         const RecurrentActivity<T>&) const = 0;
  virtual TapeBytes tape_bytes(const RecurrentSpec&, const Batch&, bool training) const = 0;
  // Leaves the parameters' gradient in the tape; add_gradient() adds it to the flat buffer.
  virtual void backward(const Run&, const RecurrentBackward<T>&, RecurrentTape<T>&) const = 0;
  virtual void add_gradient(const RecurrentSpec&, const std::vector<RecurrentOffsets>&, const RecurrentTape<T>&,
                            T* gradient, int threads) const = 0;

  // Packs a matrix B (k, columns) as the right side of product(); `plain` is (columns, k) if `transposed`, else
  // (k, columns).
  virtual ptrdiff_t packed_size(ptrdiff_t k, ptrdiff_t columns) const = 0;
  virtual void pack_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed, T* packed) const = 0;
  // The same in a storage format, in memory that it takes.
  virtual StoredMatrix<T> store_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed, StorageKind,
                                       Arena& memory) const = 0;
  // y = x B + bias over all valid (row, step); bias null: none.
  virtual void product(const Run&, const Batch&, ptrdiff_t k, ptrdiff_t columns, StoredMatrix<T> packed, const T* bias,
                       Sequence<const T> x, Sequence<T> y) const = 0;
  // The same for rows at a constant stride, on the calling thread. The bias is packed as a matrix of one row.
  virtual void multiply(const ProductCall<T>&) const = 0;
  // gradient (out, in) += sum of dy x^T, bias_gradient (out; null: none) += sum of dy.
  virtual void outer(const Run&, const Batch&, ptrdiff_t in, ptrdiff_t out, Sequence<const T> x, Sequence<const T> dy,
                     T* gradient, T* bias_gradient) const = 0;

  // y = x mask / (1 - p). The mask depends on (seed, stream, row, step, feature) alone; with `one_mask`, all steps have
  // that of step 0. x and y may be the same.
  virtual void dropout(const Run&, const Batch&, ptrdiff_t features, double p, uint64_t stream, bool one_mask,
                       Sequence<const T> x, Sequence<T> y) const = 0;

  // Moves of data.
  virtual void copy(const Copy<T>&) const = 0;
  virtual void fill(const Batch&, ptrdiff_t features, T value, Sequence<T> to) const = 0;
  // to += from
  virtual void add(const Batch&, ptrdiff_t features, Sequence<const T> from, Sequence<T> to) const = 0;
  // The sum over each row's steps; y has one step.
  virtual void sum_each_row(const Run&, const Batch&, ptrdiff_t features, Sequence<const T> x, Sequence<T> y) const = 0;
  virtual void look_up(const Lookup&, const T* table, Sequence<T> y) const = 0;
  // Packs the valid steps contiguously, rows in order; add_to_table() adds them to the rows that their tokens look up.
  virtual void pack_valid(const Batch&, ptrdiff_t features, Sequence<const T> x, T* to) const = 0;
  virtual void add_to_table(const Lookup&, const T* packed, T* table) const = 0;
  virtual void keep_past(const PastInputs<T>&) const = 0;
  // Adds to dx and dstate; data null: not wanted.
  virtual void keep_past_gradient(const ConvolutionSpec&, const Batch&, StateRows<const T> dfinal, Sequence<T> dx,
                                  StateRows<T> dstate) const = 0;
  virtual void zero_padding(const Batch&, ptrdiff_t features, Sequence<T> y) const = 0;

  virtual void convolve(const Run&, const ConvolutionForward<T>&) const = 0;
  virtual void convolve_gradient(const Run&, const ConvolutionBackward<T>&) const = 0;

  // kind: an ActivationKind or FunctionKind.
  virtual void activation(const Run&, const Batch&, ptrdiff_t features, int kind, Sequence<const T> x,
                          Sequence<T> y) const = 0;
  // dx = dy times the derivative at x, where the activation is y. dy and dx may be the same.
  virtual void activation_gradient(const Run&, const Batch&, ptrdiff_t features, int kind, Sequence<const T> x,
                                   Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) const = 0;

  // y = x where x > 0, else slope x, with a slope for each feature.
  virtual void prelu(const Run&, const Batch&, ptrdiff_t features, const T* slopes, Sequence<const T> x,
                     Sequence<T> y) const = 0;
  // Adds to dslopes; dx.data null: not wanted.
  virtual void prelu_gradient(const Run&, const Batch&, ptrdiff_t features, const T* slopes, Sequence<const T> x,
                              Sequence<const T> dy, Sequence<T> dx, T* dslopes) const = 0;

  // Normalises each step over its features. `statistics` (row, step) gets its mean and 1 / sqrt(variance + eps).
  virtual void layer_norm(const Run&, const Batch&, ptrdiff_t features, T eps, const T* gain, const T* shift,
                          Sequence<const T> x, Sequence<T> y, Sequence<T> statistics) const = 0;
  // Adds to dgain and dshift. dx.data null: not wanted.
  virtual void layer_norm_gradient(const Run&, const Batch&, ptrdiff_t features, const T* gain,
                                   Sequence<const T> statistics, Sequence<const T> x, Sequence<const T> dy,
                                   Sequence<T> dx, T* dgain, T* dshift) const = 0;

  // Mean and (biased) variance of each feature over the valid steps; there must be at least one.
  virtual void feature_statistics(const Run&, const Batch&, ptrdiff_t features, Sequence<const T> x, T* mean,
                                  T* variance) const = 0;
  virtual void feature_norm(const Run&, const Batch&, ptrdiff_t features, const FeatureNorm<T>&, const T* shift,
                            Sequence<const T> x, Sequence<T> y) const = 0;
  // `of_batch`: mean and rstd depend on this batch, so the gradient passes through them too. Adds to dgain and dshift.
  virtual void feature_norm_gradient(const Run&, const Batch&, ptrdiff_t features, const FeatureNorm<T>&, bool of_batch,
                                     Sequence<const T> x, Sequence<const T> dy, Sequence<T> dx, T* dgain,
                                     T* dshift) const = 0;

  virtual void group_norm(const Run&, const GroupNorms<T>&, const T* shift, Sequence<const T> x,
                          Sequence<T> y) const = 0;
  // Adds to dgain and dshift (features). dx.data null: not wanted.
  virtual void group_norm_gradient(const Run&, const GroupNorms<T>&, Sequence<const T> x, Sequence<const T> dy,
                                   Sequence<T> dx, T* dgain, T* dshift) const = 0;

  // total (features) += the sum over the valid steps, in an order determined by the shape.
  virtual void sum_valid(const Run&, const Batch&, ptrdiff_t features, Sequence<const T> x, T* total) const = 0;
  // y = log softmax(x), of n elements, on the calling thread.
  virtual void log_softmax(const T* x, T* y, ptrdiff_t n) const = 0;

  // Maximum and minimum: NaN wins, and the gradient goes to the first input that attains the value.
  virtual void merge(const Run&, const Merging<T>&, Sequence<T> y) const = 0;
  virtual void merge_gradient(const Run&, const Merging<T>&, Sequence<const T> dy) const = 0;

  // Optimiser steps.
  virtual void sgd(const SgdCall<T>&) const = 0;
  virtual void adam(const AdamCall<T>&) const = 0;
  virtual void rmsprop(const RmspropCall<T>&) const = 0;
  // The sum of squares of clamp(scale * x, -limit, limit), in double, over blocks of fixed size.
  virtual Clipped sum_squares(const Numbers<T>&, T scale, T limit) const = 0;
  // The largest absolute value, which may be infinite; NaN if there is a NaN.
  virtual double peak(const Numbers<T>&) const = 0;

  // Losses; each returns the sum.
  virtual double label_loss(const LabelLoss<T>&) const = 0;
  virtual double step_loss(const StepLoss<T>&) const = 0;
  virtual double ctc(const CtcLoss<T>&) const = 0;
  virtual double crf(const CrfLoss<T>&) const = 0;
  // The tagging with the highest score of each row: (row, step), 0 past the lengths; of equal ones, the one with the
  // lower tag at the last step where they differ. `scores_of` [rows] gets the scores, -infinity if every tagging is
  // forbidden.
  virtual void crf_viterbi(const Batch&, const Chain&, Sequence<const T> scores, int64_t* tags, double* scores_of,
                           Stop*) const = 0;
  // The probability of each tag at each step: zeros past the lengths, NaN in rows in which every tagging is forbidden.
  virtual void crf_marginals(const Batch&, const Chain&, Sequence<const T> scores, Sequence<T> marginals,
                             Stop*) const = 0;
  // log_softmax() in double; -infinity for NaN, so that it compares and is never chosen.
  virtual void log_probabilities(const T* x, double* y, ptrdiff_t n) const = 0;

  // Pools the valid steps of each row's last episode, zeros if there are none; y and dy have one step.
  virtual void pool(const Run&, const Batch&, ptrdiff_t features, PoolKind, Sequence<const T> x,
                    Sequence<T> y) const = 0;
  virtual void pool_gradient(const Run&, const Batch&, ptrdiff_t features, PoolKind, Sequence<const T> x,
                             Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) const = 0;
  virtual void pool_windows(const Run&, const PooledWindows<T>&, Sequence<T> y) const = 0;
  // Adds to dx and dpast; data null: not wanted.
  virtual void pool_windows_gradient(const Run&, const PooledWindows<T>&, Sequence<const T> y, Sequence<const T> dy,
                                     Sequence<T> dx, StateRows<T> dpast) const = 0;
  // The result's arrays are taken from `memory`; the keys must live as long.
  virtual std::unique_ptr<AttentionMemory<T>> attention_memory(const AttentionInput<T>&, Arena& memory) const = 0;
  virtual void attend(const Run&, const Batch&, const Attend<T>&, Sequence<T> y) const = 0;
  // Writes du and adds to dv.
  virtual void attend_gradient(const Run&, const Batch&, const Attend<T>&, Sequence<const T> dy, Sequence<T> du,
                               T* dv) const = 0;
  // dx += the gradient through the weighted sum.
  virtual void attend_input_gradient(const Run&, const Batch&, const Attend<T>&, Sequence<const T> dy,
                                     Sequence<T> dx) const = 0;
};

template <class T>
const Device<T>& cpu_device();
const Devices& cpu_devices();
template <class T>
const Device<T>& cuda_device();

}  // namespace recurra
