#include "kernels/cells/table.h"

#include "kernels/cells/gradient.h"
#include "kernels/gemm/product.h"
#include "kernels/rows/activations.h"
#include "kernels/rows/attention.h"
#include "kernels/rows/ctc.h"
#include "kernels/rows/norms.h"
#include "kernels/rows/optim.h"
#include "kernels/rows/rows.h"
#include "kernels/simd/random.h"

namespace recurra::RECURRA_ISA {

#define RECURRA_CELL(name)                    \
  extern const CellKernels<float> name##_f32; \
  extern const CellKernels<double> name##_f64;
RECURRA_CELLS(RECURRA_CELL)
#undef RECURRA_CELL
// RECURRA_STORAGES comes from CMake: X(name) for each storage format.
#define X(name)                           \
  extern const Storage<float> name##_f32; \
  extern const Storage<double> name##_f64;
RECURRA_STORAGES
#undef X

namespace {

template <class T>
ptrdiff_t operand_tiles(ptrdiff_t rows, ptrdiff_t width) {
  return split(rows, max_rows(width / kLanes<T>)).tiles;
}

// Activations in the order of ActivationKind.
template <class T>
constexpr RowKernels<T> kRowKernels = {
    softmax_cross_entropy_row<T>,
    weighted_cross_entropy_row<T>,
    binary_cross_entropy_row<T>,
    exp_row<T>,
    tanh_row<T>,
    sigmoid_row<T>,
    mask_row<T>,
    dropout_row<T>,
    {activation_row<Relu, T>, activation_row<LeakyRelu, T>, activation_row<Elu, T>, activation_row<Tanh, T>,
     activation_row<Sigmoid, T>, activation_row<Gelu, T>, activation_row<Silu, T>, activation_row<Softplus, T>,
     softmax_row<T>},
    {activation_gradient_row<Relu, T>, activation_gradient_row<LeakyRelu, T>, activation_gradient_row<Elu, T>,
     activation_gradient_row<Tanh, T>, activation_gradient_row<Sigmoid, T>, activation_gradient_row<Gelu, T>,
     activation_gradient_row<Silu, T>, activation_gradient_row<Softplus, T>, softmax_gradient_row<T>},
    dot_row<T>,
    add_scaled_row<T>,
    keep_max_row<T>,
    give_max_row<T>,
    layer_norm_row<T>,
    layer_norm_gradient_row<T>,
    add_squares_row<T>,
    normalise_row<T>,
    normalise_sums_row<T>,
    normalise_gradient_row<T>};
template <class T>
constexpr CtcKernels<T> kCtcKernels = {ctc_scratch<T>, ctc_row<T>};

template <class T>
constexpr AttentionKernels<T> kAttentionKernels = {
    scaled_softmax_row<T>, scaled_softmax_gradient_row<T>, log_softmax_row<T>,      additive_factors<T>,
    additive_scores<T>,    additive_query_gradient<T>,     additive_key_gradient<T>};

template <class T>
constexpr OptimKernels<T> kOptimKernels = {sgd_update<T>, adam_update<T>, rmsprop_update<T>, sum_squares<T>};

template <class T, template <class> class Entry>
constexpr const Entry<T>* of_type(const Entry<float>* f32, const Entry<double>* f64) {
  if constexpr (sizeof(T) == sizeof(float))
    return f32;
  else
    return f64;
}

#define X(name) of_type<T>(&name##_f32, &name##_f64),
template <class T>
constexpr const Storage<T>* kStorages[] = {X(own) RECURRA_STORAGES nullptr};
#undef X

// A constant, not built at load time: a constructor here would run this ISA's instructions on any machine.
template <class T>
constexpr Kernels<T> kKernels = {
#define RECURRA_ENTRY(name) of_type<T>(&name##_f32, &name##_f64),
    .lanes = kLanes<T>,
    .tile_vectors = kTileVectors,
    .cells = {RECURRA_CELLS(RECURRA_ENTRY)},
    .operand_tiles = operand_tiles<T>,
    .gradient = gradient<T>,
    .product = product<T>,
    .outer = outer<T>,
    .storages = kStorages<T>,
    .rows = kRowKernels<T>,
    .ctc = kCtcKernels<T>,
    .attention = kAttentionKernels<T>,
    .optim = kOptimKernels<T>,
#undef RECURRA_ENTRY
};

// Twelve independent chains of fma, enough to cover the instruction's latency.
void fma_chains(float* data, ptrdiff_t rounds) {
  typedef Vec<float> V;
  constexpr int kChains = 12;
  V chains[kChains], a = broadcast<V>(0.5f), b = broadcast<V>(1.0f);
  RECURRA_UNROLL
  for (int i = 0; i < kChains; ++i) chains[i] = broadcast<V>(data[i]);
  for (; rounds > 0; --rounds) {
    RECURRA_UNROLL
    for (int i = 0; i < kChains; ++i) chains[i] = fma(chains[i], a, b);
  }
  RECURRA_UNROLL
  for (int i = 0; i < kChains; ++i) data[i] = chains[i][0];
}

float read(const float* data, ptrdiff_t n) {
  typedef Vec<float> V;
  V sums[8] = {};
  for (const float* end = data + n; data < end; data += 8 * lanes<V>()) {
    RECURRA_UNROLL
    for (int i = 0; i < 8; ++i) sums[i] = sums[i] + load<V>(data + i * lanes<V>());
  }
  float sum = 0;
  for (const V& v : sums)
    for (int i = 0; i < lanes<V>(); ++i) sum += v[i];
  return sum;
}

}  // namespace

#define RECURRA_NAME_TEXT(x) #x
#define RECURRA_NAME(x) RECURRA_NAME_TEXT(x)
extern const IsaTable table;
const IsaTable table = {RECURRA_NAME(RECURRA_ISA), &kKernels<float>, &kKernels<double>, fma_chains, read};

}  // namespace recurra::RECURRA_ISA
