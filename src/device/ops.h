// What a device is told about layers that are not recurrent.
#pragma once
#include "device/batch.h"
#include "kernels/rows/call.h"

namespace recurra {

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

// Functions of every value beyond those of kernels/rows/activations.h, numbered behind them: the compiler's own code is
// enough.
enum FunctionKind { kSqrt = kActivations, kSquare, kExp, kLog, kAbs, kFunctions };

// to = from at every valid step.
template <class T>
struct Copy {
  const Batch* batch;
  ptrdiff_t features;
  Sequence<const T> from;
  Sequence<T> to;
  ptrdiff_t from_feature = 1, to_feature = 1;  // distances of a step's features
  bool reversed = false;                       // a row's first step goes to its last one's place
  Stop* stop = nullptr;
  // Row r of the batch is row from_rows[r] of `from` and to_rows[r], all different, of `to`; null: r.
  const int64_t* from_rows = nullptr;
  const int64_t* to_rows = nullptr;
};

// Rows of a table, `size` numbers each, that the tokens of valid steps name.
struct Lookup {
  const Batch* batch;
  ptrdiff_t size;
  Sequence<const int64_t> tokens;
};

// The inputs that the next window of each row still sees, `spec.left` of them, from those of a call and those before.
template <class T>
struct PastInputs {
  const ConvolutionSpec* spec;
  const Batch* batch;
  Sequence<const T> x;
  StateRows<const T> state;  // data null: zeros
  StateRows<T> final_state;
  bool counts;  // whether behind them there is the number of those that are there
};

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

enum class MergeKind { kAdd, kMultiply, kSubtract, kAverage, kMaximum, kMinimum, kDot, kConcatenate };

// One of several inputs with the same steps. dx: where its gradient goes; data null: not wanted.
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

}  // namespace recurra
