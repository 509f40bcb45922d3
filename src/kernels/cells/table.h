// What an ISA exports: one table of function pointers per type. Only these and pointers to data cross its border.
#pragma once
#include "kernels/cells/call.h"
#include "kernels/rows/attention_call.h"
#include "kernels/rows/call.h"
#include "kernels/rows/ctc_call.h"
#include "kernels/rows/optim_call.h"

namespace recurra {

template <class T>
struct CellKernels {
  const CellInfo* info;
  Panels (*panels)(const CellInfo&, ptrdiff_t hidden_size);  // the packed layout follows from the shape alone
  ptrdiff_t (*forward_scratch)(const CellInfo&, const Panels&, const CellOptions<T>&, ptrdiff_t input_size,
                               ptrdiff_t rows, ptrdiff_t steps, const Caches&);
  ptrdiff_t (*backward_scratch)(const CellInfo&, const Panels&, const CellOptions<T>&, ptrdiff_t rows);
  void (*forward)(const ForwardCall<T>&);
  void (*backward)(const BackwardCall<T>&);
  ScanCell<T> scan = {};  // the equations, if the loops are common to all such cells
};

// Elementwise maths over a row of n values.
template <class T>
struct RowKernels {
  // Softmax cross-entropy of one row: returns -log softmax(x)[target]; gradient (may be null) = softmax(x) - onehot.
  T (*softmax_cross_entropy)(const T* x, ptrdiff_t n, ptrdiff_t target, T* gradient);
  // The same with weights for the classes and a smoothed target.
  T (*weighted_cross_entropy)(const T* x, ptrdiff_t n, ptrdiff_t target, const ClassWeights<T>&, T* gradient);
  // sum of max(x, 0) - x y + log(1 + e^-|x|); gradient = sigmoid(x) - y.
  T (*binary_cross_entropy)(const T* x, const T* y, ptrdiff_t n, T* gradient);
  void (*exp)(const T* x, T* y, ptrdiff_t n);
  void (*tanh)(const T* x, T* y, ptrdiff_t n);
  void (*sigmoid)(const T* x, T* y, ptrdiff_t n);
  // Random rows, as kernels/simd/random.h describes them.
  void (*mask)(uint64_t key, uint64_t row, uint32_t last, T hit, T miss, T* to, ptrdiff_t n);
  void (*dropout)(uint64_t key, uint64_t row, uint32_t last, T scale, const T* x, T* y, ptrdiff_t n);
  void (*activation[kActivations])(const T* x, T* y, ptrdiff_t n);
  void (*activation_gradient[kActivations])(const T* x, const T* y, const T* dy, T* dx, ptrdiff_t n);
  // kernels/simd/vectors.h and kernels/rows/norms.h say what these do.
  T (*dot)(const T* x, const T* y, ptrdiff_t n);
  void (*add_scaled)(T a, const T* x, T* y, ptrdiff_t n);
  void (*keep_max)(const T* x, T* y, ptrdiff_t n);
  void (*give_max)(const T* x, const T* y, T* left, T* dx, ptrdiff_t n);
  void (*layer_norm)(const T* x, const T* gain, const T* shift, T eps, ptrdiff_t n, T* y, T* statistics);
  void (*layer_norm_gradient)(const T* x, const T* statistics, const T* gain, const T* dy, ptrdiff_t n, T* dx, T* dgain,
                              T* dshift);
  void (*add_squares)(const T* x, const T* mean, T* sums, ptrdiff_t n);
  void (*normalise)(const T* x, const T* mean, const T* scale, const T* shift, T* y, ptrdiff_t n);
  void (*normalise_sums)(const T* x, const T* mean, const T* dy, T* dscale, T* dshift, ptrdiff_t n);
  void (*normalise_gradient)(const T* x, const T* mean, const T* scale, const T* a, const T* b, const T* dy, T* dx,
                             ptrdiff_t n);
};

// Connectionist temporal classification of one row.
template <class T>
struct CtcKernels {
  ptrdiff_t (*scratch)(ptrdiff_t steps, ptrdiff_t labels, bool gradient);  // values that a call needs
  // -log of the target's probability: infinity if that is 0; the gradient is then undefined.
  double (*row)(const CtcCall<T>&);
};

// Rows of attention (kernels/rows/softmax.h, kernels/rows/attention.h).
template <class T>
struct AttentionKernels {
  void (*softmax)(T* x, ptrdiff_t n, T scale);
  void (*softmax_backward)(const T* y, const T* dy, ptrdiff_t n, T scale, T* dx);
  void (*log_softmax)(const T* x, T* y, ptrdiff_t n);
  // Exponentials that the others take; returns the largest |key|.
  T (*additive_factors)(const T* keys, ptrdiff_t key_row, ptrdiff_t size, ptrdiff_t count, T* to, ptrdiff_t to_row);
  void (*additive_scores)(const AdditiveCall<T>&);
  void (*additive_query_gradient)(const AdditiveCall<T>&);
  void (*additive_key_gradient)(const AdditiveCall<T>&);
};

// Optimisers' steps on stretches of flat buffers, and sums over them.
template <class T>
struct OptimKernels {
  void (*sgd)(SgdCall<T>);
  void (*adam)(AdamCall<T>);
  void (*rmsprop)(RmspropCall<T>);
  Clipped (*sum_squares)(const T* x, ptrdiff_t n, T scale, T limit);
};

template <class T>
struct Kernels {
  ptrdiff_t lanes, tile_vectors;  // in a vector; at most in a panel of plain columns
  const CellKernels<T>* cells[kCellKinds];
  ptrdiff_t (*operand_tiles)(ptrdiff_t rows, ptrdiff_t width);  // how many tiles gradient() splits its rows into
  void (*gradient)(const GradientCall<T>&);
  void (*product)(const ProductCall<T>&);
  void (*outer)(const OuterCall<T>&);
  // T itself, then the formats that CMake names; null: there is no more.
  const Storage<T>* const* storages;
  RowKernels<T> rows;
  CtcKernels<T> ctc;
  AttentionKernels<T> attention;
  OptimKernels<T> optim;
};

struct IsaTable {
  const char* name;
  const Kernels<float>* f32;
  const Kernels<double>* f64;
  // To measure the machine: `rounds` times twelve independent vector fma; the sum of n values, n a multiple of 128.
  void (*fma_chains)(float* data, ptrdiff_t rounds);
  float (*read)(const float* data, ptrdiff_t n);
};

}  // namespace recurra
