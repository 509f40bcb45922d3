#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu_mask.h"
#include "backend/cpu_recurrent.h"
#include "backend/isa.h"
#include "platform/tasks.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kOuterRows =
    256;  // rows that a weight gradient sums before it is written: fixed, so bits do not depend on threads

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

// total += the sum of rows, in short runs, then the block, then the total: as the weights' gradients are summed.
template <class T>
void add_rows(const T* rows, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t n, T* scratch, T* total) {
  constexpr ptrdiff_t kShortRun = 16;
  T *run = scratch, *block = scratch + n;
  std::fill_n(block, n, T(0));
  for (ptrdiff_t begin = 0; begin < count; begin += kShortRun) {
    std::fill_n(run, n, T(0));
    for (ptrdiff_t r = begin; r < std::min(count, begin + kShortRun); ++r)
      for (ptrdiff_t k = 0; k < n; ++k) run[k] += rows[r * stride + k];
    for (ptrdiff_t k = 0; k < n; ++k) block[k] += run[k];
  }
  for (ptrdiff_t k = 0; k < n; ++k) total[k] += block[k];
}

template <class T>
class CpuBackend final : public Backend<T> {
 public:
  const char* name() const override { return "cpu"; }

  std::shared_ptr<const RecurrentWeights<T>> pack(const RecurrentSpec& spec,
                                                  const std::vector<RecurrentOffsets>& offsets, const T* parameters,
                                                  bool transposed, int threads) const override {
    return CpuRecurrent<T>::pack(spec, offsets, parameters, transposed, threads);
  }
  void forward(const Run& run, const RecurrentForward<T>& call) const override { CpuRecurrent<T>::forward(run, call); }
  std::unique_ptr<RecurrentStep<T>> prepare_step(const RecurrentSpec& spec, ptrdiff_t rows,
                                                 const TwoStates<T>& states) const override {
    return CpuRecurrent<T>::prepare_step(spec, rows, states);
  }
  std::unique_ptr<RecurrentTape<T>> record(const Run& run, const RecurrentForward<T>& call,
                                           Arena& memory) const override {
    return CpuRecurrent<T>::record(run, call, memory);
  }
  void backward(const Run& run, const RecurrentBackward<T>& call, RecurrentTape<T>& tape) const override {
    CpuRecurrent<T>::backward(run, call, tape);
  }
  void add_gradient(const RecurrentSpec& spec, const std::vector<RecurrentOffsets>& offsets,
                    const RecurrentTape<T>& tape, T* gradient, int threads) const override {
    CpuRecurrent<T>::add_gradient(spec, offsets, tape, gradient, threads);
  }

  ptrdiff_t packed_size(ptrdiff_t k, ptrdiff_t columns) const override { return k * padded(columns); }

  void pack_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed, T* packed) const override {
    const ptrdiff_t lanes = kernels<T>().lanes;
    const ColumnPanels panels = {padded(columns) / lanes};
    for (ptrdiff_t p = 0; p < panels.count(); ++p) {
      const ptrdiff_t from = panels.begin(p) * lanes, width = panels.begin(p + 1) * lanes - from;
      T* to = packed + from * k;
      for (ptrdiff_t i = 0; i < k; ++i)
        for (ptrdiff_t n = 0; n < width; ++n, ++to) {
          const ptrdiff_t column = from + n;
          *to = column >= columns ? T(0) : transposed ? plain[column * k + i] : plain[i * columns + column];
        }
    }
  }

  void product(const Run& run, const Batch& batch, ptrdiff_t k, ptrdiff_t columns, const T* packed, const T* bias,
               Sequence<const T> x, Sequence<T> y) const override {
    T* padded_bias = nullptr;
    if (bias) {
      padded_bias = run.arena.template take<T>(size_t(padded(columns)));
      std::fill_n(std::copy_n(bias, columns, padded_bias), padded(columns) - columns, T(0));
    }
    const bool whole = x.row_stride == batch.steps * x.step_stride && y.row_stride == batch.steps * y.step_stride;
    const auto rows_of = [&](ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) {
      ProductCall<T> c = {count,  k,           columns,          x.at(row, begin), x.step_stride,
                          packed, padded_bias, y.at(row, begin), y.step_stride};
      kernels<T>().product(c);
    };
    if (whole && !batch.lengths) {
      const ptrdiff_t n = batch.rows * batch.steps, tasks = std::max<ptrdiff_t>(1, (n + kOuterRows - 1) / kOuterRows);
      for_each_task(tasks, run.threads, [&](ptrdiff_t i) {
        if (!stop(run)) rows_of(0, n * i / tasks, n * (i + 1) / tasks - n * i / tasks);
      });
    } else {
      for_each_task(batch.rows, run.threads, [&](ptrdiff_t r) {
        if (!stop(run)) rows_of(r, 0, batch.length(r));
      });
    }
  }

  void outer(const Run& run, const Batch& batch, ptrdiff_t in, ptrdiff_t out, Sequence<const T> x, Sequence<const T> dy,
             T* gradient, T* bias_gradient) const override {
    // Tasks are columns of the result, so each element has one order of summation: rows ascending, in stretches.
    const ptrdiff_t lanes = kernels<T>().lanes, vectors = padded(out) / lanes;
    const ptrdiff_t tasks = std::min<ptrdiff_t>(std::max<ptrdiff_t>(1, vectors / 4), run.threads);
    std::vector<T*> sums(static_cast<size_t>(tasks)), scratch(static_cast<size_t>(tasks));
    const auto column = [&](ptrdiff_t i) { return std::min(out, vectors * i / tasks * lanes); };
    for (ptrdiff_t i = 0; i < tasks; ++i) {
      const ptrdiff_t width = padded(column(i + 1) - column(i));
      sums[size_t(i)] = run.arena.template take<T>(size_t(in * width));
      scratch[size_t(i)] = run.arena.template take<T>(size_t(kOuterRows * width));
    }
    for_each_task(tasks, run.threads, [&](ptrdiff_t i) {
      const ptrdiff_t from = column(i), n = column(i + 1) - from, width = padded(n);
      T* sum = sums[size_t(i)];
      std::fill_n(sum, in * width, T(0));
      const auto add = [&](ptrdiff_t row, ptrdiff_t count) {
        for (ptrdiff_t begin = 0; begin < count && !stop(run); begin += kOuterRows) {
          const ptrdiff_t m = std::min(kOuterRows, count - begin);
          const T* b = dy.at(row, begin) + from;
          OuterCall<T> c = {
              m, in, n, x.at(row, begin), x.step_stride, b, dy.step_stride, sum, width, scratch[size_t(i)]};
          kernels<T>().outer(c);
          if (bias_gradient) add_rows(b, dy.step_stride, m, n, scratch[size_t(i)], bias_gradient + from);
        }
      };
      if (x.row_stride == batch.steps * x.step_stride)
        for_stretches(batch, dy, add);
      else
        for (ptrdiff_t r = 0; r < batch.rows; ++r) add(r, batch.length(r));
      for (ptrdiff_t k = 0; k < n; ++k)
        for (ptrdiff_t j = 0; j < in; ++j) gradient[(from + k) * in + j] += sum[j * width + k];
    });
  }

  void dropout(const Run& run, const Batch& batch, ptrdiff_t features, double p, uint64_t stream, bool one_mask,
               Sequence<const T> x, Sequence<T> y) const override {
    const RandomMask mask(run.seed, stream, p);
    const T scale = T(1 / (1 - p));
    for_each_task(batch.rows, run.threads, [&](ptrdiff_t row) {
      for (ptrdiff_t step = 0; step < batch.length(row) && !stop(run); ++step)
        kernels<T>().rows.dropout(mask.key, RandomMask::row(row, one_mask ? 0 : step), mask.last, scale,
                                  x.at(row, step), y.at(row, step), features);
    });
  }

  void zero_padding(const Batch& batch, ptrdiff_t features, Sequence<T> y) const override {
    if (!batch.lengths) return;
    for (ptrdiff_t r = 0; r < batch.rows; ++r)
      for (ptrdiff_t s = batch.length(r); s < batch.steps; ++s)
        std::memset(static_cast<void*>(y.at(r, s)), 0, size_t(features) * sizeof(T));
  }

 private:
  static ptrdiff_t padded(ptrdiff_t columns) {
    const ptrdiff_t lanes = kernels<T>().lanes;
    return (columns + lanes - 1) / lanes * lanes;
  }
  static bool stop(const Run& run) { return run.stop && run.stop->poll(); }
};

}  // namespace

template <class T>
const Backend<T>& cpu_backend() {
  static const CpuBackend<T> backend;
  return backend;
}
template const Backend<float>& cpu_backend();
template const Backend<double>& cpu_backend();

}  // namespace recurra
