// Attention over a batch's memory: softmax over each row's valid steps, its weighted sum, and both backwards.
#pragma once
#include <algorithm>
#include <vector>

#include "device/device.h"
#include "kernels/rows/attention_call.h"

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

// The memory and its keys, packed row by row for the products with them. Calls for different memory rows may run side
// by side.
template <class T>
class AttentionMemory {
 public:
  // `keys` data null: the memory itself. v: for additive scores, copied. Without `backward` only forward() may follow.
  // All arrays live in `memory`, where keys must stay too.
  AttentionMemory(const AttentionSpec&, const Batch&, Sequence<const T> x, Sequence<const T> keys, const T* v,
                  bool backward, const Run&, Arena& memory);

  // Takes from an arena that only counts what one that can run backwards takes. `own_keys`: they are not the memory.
  static void count(const AttentionSpec&, const Batch&, bool own_keys, Arena& count);

  // How many queries of a row take a moment.
  ptrdiff_t queries_at_once() const;
  // Weights and contexts of queries at steps [begin, begin + count) of `row`, which look at `memory_row`.
  void forward(const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin, ptrdiff_t count) const;
  // From the contexts' gradient to the queries'.
  void backward(const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin, ptrdiff_t count) const;
  // After backward() of all `count` steps of a row: the gradients of the keys (data null: part of x's) and of x. They
  // are written, not added to, up to the row's length. Needs scratch_size(count) elements.
  // It ends early where the call is to stop.
  void memory_gradient(const Run&, const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t count,
                       Sequence<T> dkeys, Sequence<T> dx, T* scratch) const;
  ptrdiff_t scratch_size(ptrdiff_t count) const;
  // v's gradient of all rows, added in their order.
  void add_v_gradient(T* gradient) const;

 private:
  struct Row {
    ptrdiff_t steps;
    T *values, *values_t;  // matrices as the right side of a product: (steps, features) and turned round
    T *keys, *keys_t;      // the same for keys; null for additive scores, which have the next ones
    const T* plain_keys;
    ptrdiff_t plain_row;
    T *factors, *query_factors;
    T most_key;
    T* dv;
  };
  AttentionMemory(const AttentionSpec&, const Batch&);
  void take(const Batch&, bool own_keys, bool backward, Arena& memory);
  void pack(const Run&, Row&, const T* x, ptrdiff_t x_row, const T* keys, ptrdiff_t keys_row) const;
  ptrdiff_t widest() const;  // features, padded to whole vectors
  AdditiveCall<T> additive(const Row&, const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t step) const;
  const Row& after(ptrdiff_t memory_row) const { return rows_[std::min(size_t(memory_row) + 1, rows_.size() - 1)]; }
  void key_gradient(const Run&, const Row&, const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t count, T* dkeys,
                    ptrdiff_t dkey_row, T* scratch) const;

  AttentionSpec spec_;
  ptrdiff_t most_steps_, key_row_;  // of factors
  T* v_ = nullptr;                  // of additive scores, padded with zeros
  std::vector<Row> rows_;
};

}  // namespace recurra
