// The seam between devices, crossed once per call of a whole recurrent stack or of a plain layer, so that a device
// schedules layers, directions, rows and steps as suits it. Packed weights and tapes are its own. A run carries its
// device; memory is the host's, and losses, optimisers, search and some layers still call the CPU's kernels directly.
#pragma once
#include <memory>
#include <vector>

#include "device/ops.h"
#include "device/recurrent.h"

namespace recurra {

template <class T>
class Device {
 public:
  virtual ~Device() = default;
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
const Device<T>& cpu_device();
const Devices& cpu_devices();
template <class T>
const Device<T>& cuda_device();

}  // namespace recurra
