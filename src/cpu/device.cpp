#include "cpu/device.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "cpu/mask.h"
#include "cpu/ops/steps.h"

namespace recurra {
namespace {

// Stretches of valid steps with a constant distance: the whole batch if it is dense and contiguous, else row by row.
template <class T, class F>
void for_stretches(const Batch& batch, Sequence<T> x, const F& f) {
  if (!batch.lengths && x.row_stride == batch.steps * x.step_stride) {
    if (batch.rows > 0 && batch.steps > 0) f(0, batch.rows * batch.steps);
    return;
  }
  for (ptrdiff_t r = 0; r < batch.rows; ++r)
    if (batch.length(r)) f(r, batch.length(r));
}

}  // namespace

template <class T>
const CellInfo& CpuDevice<T>::cell(CellKind kind) const {
  return *kernels<T>().cells[kind]->info;
}

template <class T>
ptrdiff_t CpuDevice<T>::packed_size(ptrdiff_t k, ptrdiff_t columns) const {
  return k * padded<T>(columns);
}

template <class T>
void CpuDevice<T>::pack_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed, T* packed) const {
  transposed ? pack_turned(plain, k, columns, k, packed) : pack_rows(plain, columns, k, columns, packed);
}

template <class T>
StoredMatrix<T> CpuDevice<T>::store_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed,
                                           StorageKind kind, Arena& memory) const {
  const Storage<T>& storage = *kernels<T>().storages[kind];
  T* const scales = storage.largest > 0 ? memory.take<T>(size_t(padded<T>(columns))) : nullptr;
  const char* panels = stored<T>(storage, packed_size(k, columns), memory, [&](T* packed) {
    pack_matrix(plain, k, columns, transposed, packed);
    for_panels(packed, k, columns, [&](ptrdiff_t from, ptrdiff_t, ptrdiff_t width, T* panel) {
      if (scales) scale_columns(panel, k, width, storage.largest, scales + from);
    });
  });
  return {panels, &storage, scales};
}

template <class T>
void CpuDevice<T>::product(const Run& run, const Batch& batch, ptrdiff_t k, ptrdiff_t columns, StoredMatrix<T> packed,
                           const T* bias, Sequence<const T> x, Sequence<T> y) const {
  bias = padded_bias(run, bias, columns);
  const bool whole = x.row_stride == batch.steps * x.step_stride && y.row_stride == batch.steps * y.step_stride;
  const auto rows_of = [&](ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) {
    ProductCall<T> c = {count,  k,    columns,          x.at(row, begin), x.step_stride,
                        packed, bias, y.at(row, begin), y.step_stride};
    kernels<T>().product(c);
  };
  if (whole && !batch.lengths) {
    const ptrdiff_t n = batch.rows * batch.steps, tasks = std::max<ptrdiff_t>(1, (n + kOuterRows - 1) / kOuterRows);
    for_each_task(tasks, run.threads, [&](ptrdiff_t i) {
      if (!stopped(run)) rows_of(0, n * i / tasks, n * (i + 1) / tasks - n * i / tasks);
    });
  } else {
    for_each_task(batch.rows, run.threads, [&](ptrdiff_t r) {
      if (!stopped(run)) rows_of(r, 0, batch.length(r));
    });
  }
}

template <class T>
void CpuDevice<T>::multiply(const ProductCall<T>& call) const {
  kernels<T>().product(call);
}

template <class T>
void CpuDevice<T>::outer(const Run& run, const Batch& batch, ptrdiff_t in, ptrdiff_t out, Sequence<const T> x,
                         Sequence<const T> dy, T* gradient, T* bias_gradient) const {
  outer_sum(run, in, out, gradient, bias_gradient, [&](ptrdiff_t, const auto& add) {
    const auto add_stretch = [&](ptrdiff_t row, ptrdiff_t count) {
      for (ptrdiff_t begin = 0; begin < count && !stopped(run); begin += kOuterRows)
        add(std::min(kOuterRows, count - begin), x.at(row, begin), x.step_stride, dy.at(row, begin), dy.step_stride);
    };
    if (x.row_stride == batch.steps * x.step_stride)
      for_stretches(batch, dy, add_stretch);
    else
      for (ptrdiff_t r = 0; r < batch.rows; ++r) add_stretch(r, batch.length(r));
  });
}

template <class T>
void CpuDevice<T>::dropout(const Run& run, const Batch& batch, ptrdiff_t features, double p, uint64_t stream,
                           bool one_mask, Sequence<const T> x, Sequence<T> y) const {
  const RandomMask mask(run.random, stream, p);
  const T scale = T(1 / (1 - p));
  for_each_task(batch.rows, run.threads, [&](ptrdiff_t row) {
    for (ptrdiff_t step = 0; step < batch.length(row) && !stopped(run); ++step)
      kernels<T>().rows.dropout(mask.key, mask.row(row, one_mask ? 0 : step), mask.last, scale, x.at(row, step),
                                y.at(row, step), features);
  });
}

template <class T>
void CpuDevice<T>::zero_padding(const Batch& batch, ptrdiff_t features, Sequence<T> y) const {
  if (!batch.lengths) return;
  for (ptrdiff_t r = 0; r < batch.rows; ++r)
    for (ptrdiff_t s = batch.length(r); s < batch.steps; ++s)
      std::memset(static_cast<void*>(y.at(r, s)), 0, size_t(features) * sizeof(T));
}

template <class T>
void CpuDevice<T>::sum_valid(const Run& run, const Batch& batch, ptrdiff_t features, Sequence<const T> x,
                             T* total) const {
  sum_over_steps(run, batch, features, total, [&](ptrdiff_t row, ptrdiff_t step, T* sums) {
    kernels<T>().rows.add_scaled(T(1), x.at(row, step), sums, features);
  });
}

template <class T>
void CpuDevice<T>::log_softmax(const T* x, T* y, ptrdiff_t n) const {
  kernels<T>().attention.log_softmax(x, y, n);
}

template <class T>
void CpuDevice<T>::log_probabilities(const T* x, double* y, ptrdiff_t n) const {
  const double most = double(*std::max_element(x, x + n));
  constexpr ptrdiff_t kPiece = 64;
  double exponentials[kPiece], sum = 0;
  for (ptrdiff_t k = 0; k < n; ++k) y[k] = double(x[k]) - most;
  for (ptrdiff_t k = 0; k < n; k += kPiece) {
    const ptrdiff_t count = std::min(kPiece, n - k);
    kernels<double>().rows.exp(y + k, exponentials, count);
    sum = std::accumulate(exponentials, exponentials + count, sum);
  }
  const double log_sum = std::log(sum);
  for (ptrdiff_t k = 0; k < n; ++k) y[k] = std::isnan(y[k]) ? -std::numeric_limits<double>::infinity() : y[k] - log_sum;
}

template <class T>
const Device<T>& cpu_device() {
  static const CpuDevice<T> device;
  return device;
}
template const Device<float>& cpu_device();
template const Device<double>& cpu_device();

const Devices& cpu_devices() {
  static const Devices devices = {cpu_device<float>(), cpu_device<double>(), host_memory()};
  return devices;
}

}  // namespace recurra
