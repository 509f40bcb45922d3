// Attention over a batch's memory on the CPU: its rows packed for the products with them.
#pragma once
#include <algorithm>
#include <vector>

#include "device/device.h"
#include "kernels/rows/attention_call.h"

namespace recurra {

template <class T>
class CpuAttention final : public AttentionMemory<T> {
 public:
  // Its arrays, in `memory`, where keys must stay too.
  CpuAttention(const AttentionInput<T>&, Arena& memory);

  void pack(const Run&, const T* v, Arena& scratch) override;
  void begin_backward(Arena& scratch) override;
  ptrdiff_t queries_at_once() const override;
  void forward(const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin,
               ptrdiff_t count) const override;
  void backward(const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin,
                ptrdiff_t count) const override;
  void memory_gradient(const Run&, const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t count,
                       Sequence<T> dkeys, Sequence<T> dx, T* scratch) const override;
  ptrdiff_t scratch_size(ptrdiff_t count) const override;
  void add_v_gradient(T* gradient) const override;

 private:
  struct Row {
    ptrdiff_t steps;
    T *values, *values_t;  // matrices as the right side of a product: (steps, features) and turned round
    T *keys, *keys_t;      // the same for keys; null for additive scores, which have the next ones
    const T* plain_keys;
    ptrdiff_t plain_row;
    T* factors;
    T *query_factors, *dv;  // scratch
  };
  void take_query_factors(Arena& scratch);
  void pack_row(const Run&, ptrdiff_t r) const;
  ptrdiff_t widest() const;  // features, padded to whole vectors
  AdditiveCall<T> additive(const Row&, const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t step) const;
  const Row& after(ptrdiff_t memory_row) const { return rows_[std::min(size_t(memory_row) + 1, rows_.size() - 1)]; }
  void key_gradient(const Run&, const Row&, const AttentionCall<T>&, ptrdiff_t row, ptrdiff_t count, T* dkeys,
                    ptrdiff_t dkey_row, T* scratch) const;

  AttentionSpec spec_;
  ptrdiff_t most_steps_, key_row_;  // of factors
  Sequence<const T> x_, keys_;      // keys data null: x
  T *v_, *most_key_;                // of additive scores: v padded with zeros, and of each row
  std::vector<Row> rows_;
};

}  // namespace recurra
