// The arguments of a device's calls for layers that are not recurrent.
#pragma once
#include "device/batch.h"
#include "kernels/gemm/call.h"
#include "kernels/rows/call.h"

namespace recurra {

// The rows or columns of an image: output i reads the inputs i * stride - before + j * dilation, j = 0 .. kernel - 1.
struct ImageAxis {
  ptrdiff_t size = 1, kernel = 1, stride = 1, dilation = 1, before = 0, after = 0;
  ptrdiff_t span() const { return (kernel - 1) * dilation + 1; }
  ptrdiff_t outputs() const { return (before + size + after - span()) / stride + 1; }
};

// Output step t of a convolution reads the inputs t * stride - left + j * dilation, j = 0 .. kernel - 1. Inputs outside
// the row or in another episode are zero. A step's features may be an image, [row][column][channel], over whose rows
// and columns the windows move too; outside it is zero as well. A row of no steps has no outputs.
struct ConvolutionSpec {
  ptrdiff_t in, out, kernel, stride, dilation, left, right;  // in, out: features of a step
  bool image = false;
  ImageAxis rows = {}, columns = {};
  ptrdiff_t span() const { return (kernel - 1) * dilation + 1; }
  ptrdiff_t output_steps(ptrdiff_t steps) const {
    const ptrdiff_t room = left + steps + right - span();
    return steps <= 0 || room < 0 ? 0 : room / stride + 1;
  }
  ptrdiff_t places() const { return rows.outputs() * columns.outputs(); }  // outputs of a step, each with its channels
  ptrdiff_t in_channels() const { return in / (rows.size * columns.size); }
  ptrdiff_t out_channels() const { return out / places(); }
  ptrdiff_t taps() const { return kernel * rows.kernel * columns.kernel; }
  ptrdiff_t window() const {
    return taps() * in_channels();
  }  // values that an output reads: [step][row][column][channel]
};

// `past`: the `left` inputs before a row's first step, which is the streaming state; data null: zeros.
template <class T>
struct ConvolutionForward {
  const ConvolutionSpec* spec;
  const Batch* batch;      // of x
  StoredMatrix<T> packed;  // (window, out_channels)
  const T* bias;           // null: none
  Sequence<const T> x;
  StateRows<const T> past;
  Sequence<T> y;
};

template <class T>
struct ConvolutionBackward {
  const ConvolutionSpec* spec;
  const Batch* batch;
  StoredMatrix<T> packed;  // (out_channels, window)
  Sequence<const T> x;
  StateRows<const T> past;
  Sequence<const T> dy;
  Sequence<T> dx;               // data null: not wanted
  StateRows<T> dpast;           // added to; data null: not wanted
  T *gradient, *bias_gradient;  // (out_channels, window; null: not wanted), (out_channels; null: none), added to
};

// Elementwise functions besides those of kernels/rows/activations.h, numbered after them; they need no own kernels.
enum FunctionKind {
  kSqrt = kActivations,
  kSquare,
  kExp,
  kLog,
  kAbs,
  kHardSigmoid,
  kHardSwish,
  kHardTanh,
  kRelu6,
  kSelu,
  kSoftsign,
  kMish,
  kFunctions
};

// to = from at every valid step.
template <class T>
struct Copy {
  const Batch* batch;
  ptrdiff_t features;
  Sequence<const T> from;
  Sequence<T> to;
  ptrdiff_t from_feature = 1, to_feature = 1;  // strides of a step's features
  bool reversed = false;                       // reverses each row's valid steps
  Stop* stop = nullptr;
  // Row r of the batch is row from_rows[r] of `from` and row to_rows[r], all distinct, of `to`; null: r.
  const int64_t* from_rows = nullptr;
  const int64_t* to_rows = nullptr;
};

// A lookup of the valid steps' tokens in a table with rows of `size` numbers.
struct Lookup {
  const Batch* batch;
  ptrdiff_t size;
  Sequence<const int64_t> tokens;
};

// The `spec.left` past inputs that each row's next window reads, from a call's inputs and those before.
template <class T>
struct PastInputs {
  const ConvolutionSpec* spec;
  const Batch* batch;
  Sequence<const T> x;
  StateRows<const T> state;  // data null: zeros
  StateRows<T> final_state;
  bool counts;  // whether a count of the inputs that exist follows them
};

enum class PoolKind { kLast, kMean, kMax };

// Pooling over windows of steps and of images in them (spec.in = features), without dilation: the mean or maximum of
// the inputs that exist and belong to the output step's episode. past, count: the `left` inputs before a row's first
// step, and how many of them, the last ones, exist; data null: none.
template <class T>
struct PooledWindows {
  const ConvolutionSpec* spec;
  const Batch* batch;  // of x
  PoolKind kind;
  Sequence<const T> x;
  StateRows<const T> past, count;
};

enum class MergeKind { kAdd, kMultiply, kSubtract, kAverage, kMaximum, kMinimum, kDot, kConcatenate };

// One of several inputs with the same steps, and its gradient; dx.data null: not wanted.
template <class T>
struct MergePart {
  Sequence<const T> x;
  Sequence<T> dx;
  ptrdiff_t features;
};
template <class T>
struct Merging {
  MergeKind kind;
  const Batch* batch;
  const MergePart<T>* parts;
  ptrdiff_t count;
};

// Normalises each feature by its own statistics: y = (x - mean) rstd gain + shift.
template <class T>
struct FeatureNorm {
  const T *mean, *rstd, *gain;
};

// Normalises each row's groups of channels by their own statistics over all valid steps and positions.
// `statistics` (row, 2 groups): the means, then 1 / sqrt(variance + eps).
template <class T>
struct GroupNorms {
  const Batch* batch;
  ptrdiff_t features, channels, groups;  // features: a multiple of channels
  T eps;
  const T* gain;  // (features)
  StateRows<T> statistics;
};

// Attention with a learnt query: weights = softmax over the steps of v . u, y = the weighted sum of x.
template <class T>
struct Attend {
  ptrdiff_t features, hidden;
  const T* v;
  Sequence<const T> x, u;
  Sequence<T> weights;  // (row, step), with one feature
};

}  // namespace recurra
