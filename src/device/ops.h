// The arguments of a device's calls for layers that are not recurrent.
#pragma once
#include "device/batch.h"
#include "kernels/gemm/call.h"
#include "kernels/rows/call.h"

namespace recurra {

// Output step t of a convolution reads the inputs t * stride - left + j * dilation, j = 0 .. kernel - 1. Inputs outside
// the row or in another episode are zero.
struct ConvolutionSpec {
  ptrdiff_t in, out, kernel, stride, dilation, left, right;
  ptrdiff_t span() const { return (kernel - 1) * dilation + 1; }
  ptrdiff_t output_steps(ptrdiff_t steps) const {
    const ptrdiff_t room = left + steps + right - span();
    return room < 0 ? 0 : room / stride + 1;
  }
};

// `past`: the `left` inputs before a row's first step, which is the streaming state; data null: zeros.
template <class T>
struct ConvolutionForward {
  const ConvolutionSpec* spec;
  const Batch* batch;      // of x
  StoredMatrix<T> packed;  // (kernel * in, out)
  const T* bias;           // null: none
  Sequence<const T> x;
  StateRows<const T> past;
  Sequence<T> y;
};

template <class T>
struct ConvolutionBackward {
  const ConvolutionSpec* spec;
  const Batch* batch;
  StoredMatrix<T> packed;  // (out, kernel * in)
  Sequence<const T> x;
  StateRows<const T> past;
  Sequence<const T> dy;
  Sequence<T> dx;               // data null: not wanted
  StateRows<T> dpast;           // added to; data null: not wanted
  T *gradient, *bias_gradient;  // (out, kernel, in), (out; null: none), added to
};

// Elementwise functions besides those of kernels/rows/activations.h, numbered after them; they need no own kernels.
enum FunctionKind { kSqrt = kActivations, kSquare, kExp, kLog, kAbs, kFunctions };

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

// Pooling over windows of steps (spec.in = features): the mean or maximum of the inputs that exist and belong to the
// output step's episode. past, count: the `left` inputs before a row's first step, and how many of them, the last ones,
// exist; data null: none.
template <class T>
struct WindowPool {
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

// Attention with a learnt query: weights = softmax over the steps of v . u, y = the weighted sum of x.
template <class T>
struct Attend {
  ptrdiff_t features, hidden;
  const T* v;
  Sequence<const T> x, u;
  Sequence<T> weights;  // (row, step), with one feature
};

}  // namespace recurra
