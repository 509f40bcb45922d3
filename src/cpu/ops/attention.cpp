#include "cpu/ops/attention.h"

#include <algorithm>

#include "cpu/device.h"
#include "cpu/ops/matrix.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kOuterColumns = 4096;  // of a memory's steps, between two looks at the clock

// to(k, :) (+)= sum over rows of a(row, k) b(row, :), by blocks of rows.
template <class T>
void add_outer(const Run& run, ptrdiff_t rows, ptrdiff_t k, ptrdiff_t columns, const T* a, ptrdiff_t a_row, const T* b,
               ptrdiff_t b_row, T* sum, T* scratch) {
  const ptrdiff_t sum_row = padded<T>(columns);
  for (ptrdiff_t begin = 0; begin < rows; begin += kOuterRows)
    for (ptrdiff_t j = 0; j < k && !stopped(run); j += kOuterColumns)
      kernels<T>().outer({std::min(kOuterRows, rows - begin), std::min(kOuterColumns, k - j), columns,
                          a + begin * a_row + j, a_row, b + begin * b_row, b_row, sum + j * sum_row, sum_row, scratch});
}

}  // namespace

// Queries whose factors are kept at once for the keys' gradient: in the first-level cache beside the keys'.
// A long memory's keys are not there anyway, and a block must not take long.
constexpr ptrdiff_t kQueryBlock = 64, kLongMemory = 1 << 14, kLongQueryBlock = 4;

template <class T>
CpuAttention<T>::CpuAttention(const AttentionInput<T>& input, Arena& memory)
    : spec_(*input.spec),
      most_steps_(input.batch->steps),
      key_row_(spaced<T>(input.spec->key_size)),
      x_(input.x),
      keys_(input.keys),
      rows_(size_t(input.batch->rows)) {
  const ptrdiff_t M = spec_.memory_size, A = spec_.key_size;
  const bool own_keys = keys_.data != nullptr, backward = input.backward;
  const auto take = [&](bool wanted, ptrdiff_t n) { return wanted ? memory.take<T>(size_t(n)) : nullptr; };
  for (ptrdiff_t r = 0; r < input.batch->rows; ++r) {
    Row& row = rows_[size_t(r)];
    const ptrdiff_t n = input.batch->length(r);
    row.steps = n;
    row.values = take(true, n * padded<T>(M));
    row.values_t = take(backward || !(own_keys || spec_.additive), padded<T>(n) * M);
    if (spec_.additive) {
      const Sequence<const T>& from = own_keys ? keys_ : x_;
      row.plain_keys = from.at(r, 0);
      row.plain_row = from.step_stride;
      row.factors = take(true, n * key_row_);
    } else {
      row.keys = own_keys ? take(backward, n * padded<T>(A)) : row.values;
      row.keys_t = own_keys ? take(true, padded<T>(n) * A) : row.values_t;
    }
  }
  v_ = take(spec_.additive, key_row_);
  most_key_ = take(spec_.additive, input.batch->rows);
}

template <class T>
void CpuAttention<T>::pack(const Run& run, const T* v, Arena& scratch) {
  if (spec_.additive) std::fill(std::copy_n(v, spec_.key_size, v_), v_ + key_row_, T(0));
  take_query_factors(scratch);
  for_each_task(ptrdiff_t(rows_.size()), run.threads, [&](ptrdiff_t r) { pack_row(run, r); });
}

template <class T>
void CpuAttention<T>::take_query_factors(Arena& scratch) {
  for (Row& row : rows_)
    if (spec_.additive) row.query_factors = scratch.take<T>(size_t(key_row_));
}

template <class T>
void CpuAttention<T>::begin_backward(Arena& scratch) {
  take_query_factors(scratch);
  for (Row& row : rows_)
    if (spec_.additive) row.dv = scratch.take<T>(size_t(key_row_));
}

template <class T>
void CpuAttention<T>::pack_row(const Run& run, ptrdiff_t r) const {
  const Row& row = rows_[size_t(r)];
  const ptrdiff_t n = row.steps, M = spec_.memory_size, A = spec_.key_size;
  if (!n || stopped(run)) return;
  pack_rows(x_.at(r, 0), x_.step_stride, n, M, row.values);
  if (stopped(run)) return;
  if (row.values_t) pack_turned(x_.at(r, 0), x_.step_stride, n, M, row.values_t);
  if (stopped(run)) return;
  if (spec_.additive) {
    most_key_[r] = kernels<T>().attention.additive_factors(row.plain_keys, row.plain_row, A, n, row.factors, key_row_);
  } else if (row.keys_t != row.values_t) {
    pack_turned(keys_.at(r, 0), keys_.step_stride, n, A, row.keys_t);
    if (row.keys) pack_rows(keys_.at(r, 0), keys_.step_stride, n, A, row.keys);
  }
}

template <class T>
AdditiveCall<T> CpuAttention<T>::additive(const Row& m, const AttentionCall<T>& call, ptrdiff_t row,
                                          ptrdiff_t step) const {
  AdditiveCall<T> c = {};
  c.size = spec_.key_size;
  c.count = m.steps;
  c.queries = 1;
  c.query = call.query.at(row, step);
  c.query_row = call.query.step_stride;
  c.keys = m.plain_keys;
  c.key_row = m.plain_row;
  c.factors = m.factors;
  c.most_key = most_key_[&m - rows_.data()];
  c.factor_row = key_row_;
  c.query_factors = m.query_factors;
  c.v = v_;
  c.ask[0] = c.ask[1] = m.factors;
  return c;
}

template <class T>
void CpuAttention<T>::forward(const AttentionCall<T>& call, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin,
                              ptrdiff_t count) const {
  const Row& m = rows_[size_t(memory_row)];
  const ptrdiff_t n = m.steps, M = spec_.memory_size, A = spec_.key_size;
  T* weights = call.weights.at(row, begin);
  T* context = call.context.at(row, begin);
  const ptrdiff_t weights_row = call.weights.step_stride, context_row = call.context.step_stride;
  for (ptrdiff_t i = 0; i < count; ++i) {
    std::fill(weights + i * weights_row + n, weights + i * weights_row + most_steps_, T(0));
    if (!n) std::fill_n(context + i * context_row, M, T(0));
  }
  if (!n) return;
  if (spec_.additive) {
    for (ptrdiff_t i = 0; i < count; ++i) {
      AdditiveCall<T> c = additive(m, call, row, begin + i);
      c.scores = weights + i * weights_row;
      if (i + 1 == count) c.ask[0] = m.values, c.ask[1] = after(memory_row).factors;
      kernels<T>().attention.additive_scores(c);
    }
  } else {
    kernels<T>().product(
        {count, A, n, call.query.at(row, begin), call.query.step_stride, m.keys_t, nullptr, weights, weights_row});
  }
  for (ptrdiff_t i = 0; i < count; ++i) kernels<T>().attention.softmax(weights + i * weights_row, n, T(spec_.scale));
  kernels<T>().product({count, n, M, weights, weights_row, m.values, nullptr, context, context_row});
}

template <class T>
void CpuAttention<T>::backward(const AttentionCall<T>& call, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin,
                               ptrdiff_t count) const {
  const Row& m = rows_[size_t(memory_row)];
  const ptrdiff_t n = m.steps, M = spec_.memory_size, A = spec_.key_size;
  T* dscores = call.dscores.at(row, begin);
  T* dquery = call.dquery.at(row, begin);
  const ptrdiff_t dscores_row = call.dscores.step_stride, dquery_row = call.dquery.step_stride;
  if (!n) {
    for (ptrdiff_t i = 0; i < count; ++i) std::fill_n(dquery + i * dquery_row, A, T(0));
    return;
  }
  kernels<T>().product({count, M, n, call.dcontext.at(row, begin), call.dcontext.step_stride, m.values_t, nullptr,
                        dscores, dscores_row});
  for (ptrdiff_t i = 0; i < count; ++i) {
    T* ds = dscores + i * dscores_row;
    kernels<T>().attention.softmax_backward(call.weights.at(row, begin + i), ds, n, T(spec_.scale), ds);
    if (!spec_.additive) continue;
    AdditiveCall<T> c = additive(m, call, row, begin + i);
    c.dscores = ds;
    c.dquery = dquery + i * dquery_row;
    if (i + 1 == count) c.ask[0] = after(memory_row).values_t, c.ask[1] = after(memory_row).factors;
    kernels<T>().attention.additive_query_gradient(c);
  }
  if (!spec_.additive) kernels<T>().product({count, n, A, dscores, dscores_row, m.keys, nullptr, dquery, dquery_row});
}

template <class T>
ptrdiff_t CpuAttention<T>::queries_at_once() const {
  constexpr ptrdiff_t kMoment = 1 << 22, kMost = 64;
  return std::clamp<ptrdiff_t>(kMoment / (std::max<ptrdiff_t>(most_steps_, 1) * (spec_.memory_size + spec_.key_size)),
                               1, kMost);
}

template <class T>
ptrdiff_t CpuAttention<T>::widest() const {
  return padded<T>(std::max(spec_.memory_size, spec_.key_size));
}

template <class T>
ptrdiff_t CpuAttention<T>::scratch_size(ptrdiff_t count) const {
  return std::max((most_steps_ + std::min(kOuterRows, count)) * widest(), std::min(kQueryBlock, count) * key_row_);
}

// The keys' gradient of additive scores, and v's.
template <class T>
void CpuAttention<T>::key_gradient(const Run& run, const Row& m, const AttentionCall<T>& call, ptrdiff_t row,
                                   ptrdiff_t count, T* dkeys, ptrdiff_t dkey_row, T* scratch) const {
  std::fill_n(m.dv, key_row_, T(0));
  for (ptrdiff_t j = 0; j < m.steps; ++j) std::fill_n(dkeys + j * dkey_row, spec_.key_size, T(0));
  const ptrdiff_t block = m.steps <= kLongMemory ? kQueryBlock : kLongQueryBlock;
  for (ptrdiff_t begin = 0; begin < count && !stopped(run); begin += block) {
    AdditiveCall<T> c = additive(m, call, row, begin);
    c.queries = std::min(block, count - begin);
    c.query_factors = scratch;
    c.dscores = call.dscores.at(row, begin);
    c.dscores_row = call.dscores.step_stride;
    c.dkeys = dkeys;
    c.dkey_row = dkey_row;
    c.dv = m.dv;
    kernels<T>().attention.additive_key_gradient(c);
  }
}

template <class T>
void CpuAttention<T>::memory_gradient(const Run& run, const AttentionCall<T>& call, ptrdiff_t row, ptrdiff_t memory_row,
                                      ptrdiff_t count, Sequence<T> dkeys, Sequence<T> dx, T* scratch) const {
  const Row& m = rows_[size_t(memory_row)];
  const ptrdiff_t n = m.steps, M = spec_.memory_size, A = spec_.key_size;
  if (spec_.additive) key_gradient(run, m, call, row, count, dkeys.at(memory_row, 0), dkeys.step_stride, scratch);
  if (!n) return;
  T *const sum = scratch, *const rest = scratch + most_steps_ * widest();
  const auto put = [&](Sequence<T> to, const T* from, ptrdiff_t from_row, ptrdiff_t features) {
    for (ptrdiff_t j = 0; j < n; ++j) std::copy_n(from + j * from_row, features, to.at(memory_row, j));
  };
  const auto add_keys = [&] {
    add_outer(run, count, n, A, static_cast<const T*>(call.dscores.at(row, 0)), call.dscores.step_stride,
              call.query.at(row, 0), call.query.step_stride, sum, rest);
  };
  if (dkeys.data && !spec_.additive) {
    std::fill_n(sum, n * padded<T>(A), T(0));
    add_keys();
    put(dkeys, sum, padded<T>(A), A);
  }
  std::fill_n(sum, n * padded<T>(M), T(0));
  add_outer(run, count, n, M, static_cast<const T*>(call.weights.at(row, 0)), call.weights.step_stride,
            call.dcontext.at(row, 0), call.dcontext.step_stride, sum, rest);
  if (!dkeys.data) add_keys();
  put(dx, sum, padded<T>(M), M);
}

template <class T>
void CpuAttention<T>::add_v_gradient(T* gradient) const {
  for (const Row& row : rows_)
    for (ptrdiff_t k = 0; k < spec_.key_size; ++k) gradient[k] += row.dv[k];
}

template <class T>
std::unique_ptr<AttentionMemory<T>> CpuDevice<T>::attention_memory(const AttentionInput<T>& input,
                                                                   Arena& memory) const {
  return std::make_unique<CpuAttention<T>>(input, memory);
}

#define RECURRA_INSTANCES(T) \
  template std::unique_ptr<AttentionMemory<T>> CpuDevice<T>::attention_memory(const AttentionInput<T>&, Arena&) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
