// What only moves bytes, or adds them up on the way.
#include "cpu/device.h"
#include "device/valid_steps.h"

namespace recurra {
namespace {

// Calls f(i, step, from_state) for i < spec.left, the inputs that the next window of a row still sees: step `step` of
// the row, or value `from_state` of the state before it; both -1 where an episode's beginning lies between.
template <class F>
void for_each_past(const ConvolutionSpec& spec, const Batch& batch, ptrdiff_t row, const F& f) {
  const ptrdiff_t start = batch.last_reset(row), length = batch.length(row);
  for (ptrdiff_t i = 0; i < spec.left; ++i) {
    const ptrdiff_t step = length - spec.left + i;
    if (step >= std::max<ptrdiff_t>(start, 0))
      f(i, step, -1);
    else
      f(i, -1, start < 0 ? spec.left + step : -1);
  }
}

}  // namespace

template <class T>
void CpuDevice<T>::copy(const Copy<T>& call) const {
  const ptrdiff_t features = call.features;
  const auto from = [&](ptrdiff_t r, ptrdiff_t s) { return call.from.at(call.from_rows ? call.from_rows[r] : r, s); };
  const auto to = [&](ptrdiff_t r, ptrdiff_t s) {
    return call.to.at(call.to_rows ? call.to_rows[r] : r, call.reversed ? call.batch->length(r) - 1 - s : s);
  };
  if (call.from_feature == 1 && call.to_feature == 1)
    return for_each_valid(
        *call.batch, features, [&](ptrdiff_t r, ptrdiff_t s) { std::copy_n(from(r, s), features, to(r, s)); },
        call.stop);
  for_each_valid(
      *call.batch, features,
      [&](ptrdiff_t r, ptrdiff_t s) {
        const T* const source = from(r, s);
        T* const place = to(r, s);
        for (ptrdiff_t i = 0; i < features; ++i) place[i * call.to_feature] = source[i * call.from_feature];
      },
      call.stop);
}

template <class T>
void CpuDevice<T>::fill(const Batch& batch, ptrdiff_t features, T value, Sequence<T> to) const {
  for_each_valid(batch, features, [&](ptrdiff_t r, ptrdiff_t s) { std::fill_n(to.at(r, s), features, value); });
}

template <class T>
void CpuDevice<T>::add(const Batch& batch, ptrdiff_t features, Sequence<const T> from, Sequence<T> to) const {
  for_each_valid(batch, features, [&](ptrdiff_t r, ptrdiff_t s) {
    const T* a = from.at(r, s);
    T* b = to.at(r, s);
    for (ptrdiff_t k = 0; k < features; ++k) b[k] += a[k];
  });
}

// In short runs, so that many lose no digits.
template <class T>
void CpuDevice<T>::sum_each_row(const Run& run, const Batch& batch, ptrdiff_t features, Sequence<const T> x,
                                Sequence<T> y) const {
  constexpr ptrdiff_t kShortRun = 64;
  T* const sums = run.arena.template take<T>(size_t(batch.rows * features));
  for_each_task(batch.rows, threads_to_move(batch.rows * batch.steps * features), [&](ptrdiff_t r) {
    const ptrdiff_t steps = batch.length(r);
    T *const total = y.at(r, 0), *const sum = sums + r * features;
    std::fill_n(total, features, T(0));
    for (ptrdiff_t begin = 0; begin < steps; begin += kShortRun) {
      if (run.poll()) return;
      std::fill_n(sum, features, T(0));
      for (ptrdiff_t s = begin; s < std::min(steps, begin + kShortRun); ++s)
        for (ptrdiff_t i = 0; i < features; ++i) sum[i] += x.at(r, s)[i];
      for (ptrdiff_t i = 0; i < features; ++i) total[i] += sum[i];
    }
  });
}

template <class T>
void CpuDevice<T>::look_up(const Lookup& call, const T* table, Sequence<T> y) const {
  for (ptrdiff_t r = 0; r < call.batch->rows; ++r)
    for (ptrdiff_t s = 0; s < call.batch->length(r); ++s)
      std::copy_n(table + *call.tokens.at(r, s) * call.size, call.size, y.at(r, s));
}

template <class T>
void CpuDevice<T>::pack_valid(const Batch& batch, ptrdiff_t features, Sequence<const T> x, T* to) const {
  for (ptrdiff_t r = 0; r < batch.rows; ++r)
    for (ptrdiff_t s = 0; s < batch.length(r); ++s) to = std::copy_n(x.at(r, s), features, to);
}

template <class T>
void CpuDevice<T>::add_to_table(const Lookup& call, const T* packed, T* table) const {
  for (ptrdiff_t r = 0; r < call.batch->rows; ++r)
    for (ptrdiff_t s = 0; s < call.batch->length(r); ++s, packed += call.size) {
      T* row = table + *call.tokens.at(r, s) * call.size;
      for (ptrdiff_t k = 0; k < call.size; ++k) row[k] += packed[k];
    }
}

template <class T>
void CpuDevice<T>::keep_past(const PastInputs<T>& call) const {
  const ConvolutionSpec& spec = *call.spec;
  const Batch& batch = *call.batch;
  const ptrdiff_t size = spec.left * spec.in;
  for (ptrdiff_t r = 0; r < batch.rows; ++r) {
    for_each_past(spec, batch, r, [&](ptrdiff_t i, ptrdiff_t step, ptrdiff_t from_state) {
      T* to = call.final_state.at(r) + i * spec.in;
      if (step >= 0)
        std::copy_n(call.x.at(r, step), spec.in, to);
      else if (from_state >= 0 && call.state.data)
        std::copy_n(call.state.at(r) + from_state * spec.in, spec.in, to);
      else
        std::fill_n(to, spec.in, T(0));
    });
    if (!call.counts) continue;
    const ptrdiff_t start = batch.last_reset(r), length = batch.length(r);
    const T before = start < 0 && call.state.data ? call.state.at(r)[size] : T(0);
    call.final_state.at(r)[size] = std::min(T(spec.left), before + T(length - std::max<ptrdiff_t>(start, 0)));
  }
}

template <class T>
void CpuDevice<T>::keep_past_gradient(const ConvolutionSpec& spec, const Batch& batch, StateRows<const T> dfinal,
                                      Sequence<T> dx, StateRows<T> dstate) const {
  for (ptrdiff_t r = 0; r < batch.rows; ++r)
    for_each_past(spec, batch, r, [&](ptrdiff_t i, ptrdiff_t step, ptrdiff_t from_state) {
      const T* from = dfinal.at(r) + i * spec.in;
      T* to = nullptr;
      if (step >= 0 && dx.data) to = dx.at(r, step);
      if (from_state >= 0 && dstate.data) to = dstate.at(r) + from_state * spec.in;
      for (ptrdiff_t k = 0; to && k < spec.in; ++k) to[k] += from[k];
    });
}

#define RECURRA_INSTANCES(T)                                                                                           \
  template void CpuDevice<T>::copy(const Copy<T>&) const;                                                              \
  template void CpuDevice<T>::fill(const Batch&, ptrdiff_t, T, Sequence<T>) const;                                     \
  template void CpuDevice<T>::add(const Batch&, ptrdiff_t, Sequence<const T>, Sequence<T>) const;                      \
  template void CpuDevice<T>::sum_each_row(const Run&, const Batch&, ptrdiff_t, Sequence<const T>, Sequence<T>) const; \
  template void CpuDevice<T>::look_up(const Lookup&, const T*, Sequence<T>) const;                                     \
  template void CpuDevice<T>::pack_valid(const Batch&, ptrdiff_t, Sequence<const T>, T*) const;                        \
  template void CpuDevice<T>::add_to_table(const Lookup&, const T*, T*) const;                                         \
  template void CpuDevice<T>::keep_past(const PastInputs<T>&) const;                                                   \
  template void CpuDevice<T>::keep_past_gradient(const ConvolutionSpec&, const Batch&, StateRows<const T>,             \
                                                 Sequence<T>, StateRows<T>) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
