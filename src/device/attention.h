// Attention over a batch's memory, as a device is told of it.
#pragma once
#include "device/batch.h"

namespace recurra {

// The distance of rows of `features`: whole cache lines, and no power of two, which would crowd cache sets.
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

// Of queries, (row, step, feature) each. Weights have a column for every memory step, 0 past a row's length.
template <class T>
struct AttentionCall {
  Sequence<const T> query;
  Sequence<T> weights, context;
  Sequence<const T> dcontext;  // backwards, with what follows
  Sequence<T> dquery, dscores;
};

// What is looked at. keys data null: the memory itself, x. v: for additive scores. Without `backward` only forward()
// may follow.
template <class T>
struct AttentionInput {
  const AttentionSpec* spec;
  const Batch* batch;
  Sequence<const T> x, keys;
  const T* v;
  bool backward;
};

// A device's copy of a memory and its keys, in its own layout; softmax over each row's valid steps, its weighted sum,
// and both backwards. Calls for different memory rows may run side by side.
template <class T>
class AttentionMemory {
 public:
  virtual ~AttentionMemory() = default;

  // How many queries of a row take a moment.
  virtual ptrdiff_t queries_at_once() const = 0;
  // Weights and contexts of queries at steps [begin, begin + count) of `row`, which look at `memory_row`.
  virtual void forward(const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin,
                       ptrdiff_t count) const = 0;
  // From the contexts' gradient to the queries'.
  virtual void backward(const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin,
                        ptrdiff_t count) const = 0;
  // After backward() of all `count` steps of a row: the gradients of the keys (data null: part of x's) and of x. They
  // are written, not added to, up to the row's length. Needs scratch_size(count) elements.
  // It ends early where the call is to stop.
  virtual void memory_gradient(const Run&, const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row,
                               ptrdiff_t count, Sequence<T> dkeys, Sequence<T> dx, T* scratch) const = 0;
  virtual ptrdiff_t scratch_size(ptrdiff_t count) const = 0;
  // v's gradient of all rows, added in their order.
  virtual void add_v_gradient(T* gradient) const = 0;
};

}  // namespace recurra
