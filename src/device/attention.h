// The arguments of a device's attention to a batch's memory.
#pragma once
#include "device/batch.h"

namespace recurra {

// The stride of rows of `features`: one cache line more than needed, as power-of-two strides would crowd cache sets.
template <class T>
constexpr ptrdiff_t spaced(ptrdiff_t features) {
  constexpr ptrdiff_t line = 64 / ptrdiff_t(sizeof(T));
  return (features + line - 1) / line * line + line;
}

struct AttentionSpec {
  bool additive;  // score = v . tanh(query + key), else scale * (query . key)
  ptrdiff_t key_size, memory_size;
  double scale;
};

// The arrays of queries, (row, step, feature). `weights` has a column for each memory step, 0 past a row's length.
template <class T>
struct AttentionCall {
  Sequence<const T> query;
  Sequence<T> weights, context;
  Sequence<const T> dcontext;  // this and the following for backward
  Sequence<T> dquery, dscores;
};

// The memory x and its keys; keys.data null: the keys are x itself. Without `backward`, only forward() may follow.
template <class T>
struct AttentionInput {
  const AttentionSpec* spec;
  const Batch* batch;
  Sequence<const T> x, keys;
  bool backward;
};

// A device's copy of a memory and its keys, in its own layout, with attention to it, forward and backward: a softmax
// over each row's valid steps, and their weighted sum. Calls for different memory rows may run concurrently.
template <class T>
class AttentionMemory {
 public:
  virtual ~AttentionMemory() = default;

  // Packs x and keys, before any other call. v: for additive scores. Buffers that only calls need are taken from
  // `scratch`.
  virtual void pack(const Run&, const T* v, Arena& scratch) = 0;
  // Takes the buffers of backward() and memory_gradient().
  virtual void begin_backward(Arena& scratch) = 0;

  // Queries of a row in a call that is short enough to run without polling.
  virtual ptrdiff_t queries_at_once() const = 0;
  // Weights and contexts of the queries at steps [begin, begin + count) of `row`, which attend to `memory_row`.
  virtual void forward(const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin,
                       ptrdiff_t count) const = 0;
  // The queries' gradient from the contexts'.
  virtual void backward(const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin,
                        ptrdiff_t count) const = 0;
  // After backward() of all `count` steps of a row: the gradients of the keys (data null: part of x's) and of x. They
  // are overwritten, not added to, up to the row's length. `scratch` has scratch_size(count) elements.
  // Ends early if the run is stopped.
  virtual void memory_gradient(const Run&, const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row,
                               ptrdiff_t count, Sequence<T> dkeys, Sequence<T> dx, T* scratch) const = 0;
  virtual ptrdiff_t scratch_size(ptrdiff_t count) const = 0;
  // Adds v's gradient of all rows, in their order.
  virtual void add_v_gradient(T* gradient) const = 0;
};

}  // namespace recurra
