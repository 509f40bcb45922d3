#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu_layers.h"
#include "backend/cpu_mask.h"
#include "backend/cpu_matrix.h"
#include "backend/cpu_recurrent.h"

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

template <class T>
class CpuBackend final : public Backend<T> {
 public:
  const char* name() const override { return "cpu"; }

  std::unique_ptr<RecurrentWeights<T>> pack(const RecurrentSpec& spec, const std::vector<RecurrentOffsets>& offsets,
                                            const T* parameters, bool transposed, int threads,
                                            Arena memory) const override {
    return CpuRecurrent<T>::pack(spec, offsets, parameters, transposed, threads, std::move(memory));
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
  TapeBytes tape_bytes(const RecurrentSpec& spec, const Batch& batch, bool training) const override {
    return CpuRecurrent<T>::tape_bytes(spec, batch, training);
  }
  void backward(const Run& run, const RecurrentBackward<T>& call, RecurrentTape<T>& tape) const override {
    CpuRecurrent<T>::backward(run, call, tape);
  }
  bool read_tape(const RecurrentSpec& spec, const RecurrentTape<T>& tape, size_t index,
                 const RecurrentActivity<T>& to) const override {
    return CpuRecurrent<T>::read_tape(spec, tape, index, to);
  }
  void add_gradient(const RecurrentSpec& spec, const std::vector<RecurrentOffsets>& offsets,
                    const RecurrentTape<T>& tape, T* gradient, int threads) const override {
    CpuRecurrent<T>::add_gradient(spec, offsets, tape, gradient, threads);
  }

  ptrdiff_t packed_size(ptrdiff_t k, ptrdiff_t columns) const override { return k * padded<T>(columns); }

  void pack_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed, T* packed) const override {
    transposed ? pack_turned(plain, k, columns, k, packed) : pack_rows(plain, columns, k, columns, packed);
  }

  void product(const Run& run, const Batch& batch, ptrdiff_t k, ptrdiff_t columns, const T* packed, const T* bias,
               Sequence<const T> x, Sequence<T> y) const override {
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

  void outer(const Run& run, const Batch& batch, ptrdiff_t in, ptrdiff_t out, Sequence<const T> x, Sequence<const T> dy,
             T* gradient, T* bias_gradient) const override {
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

  void dropout(const Run& run, const Batch& batch, ptrdiff_t features, double p, uint64_t stream, bool one_mask,
               Sequence<const T> x, Sequence<T> y) const override {
    const RandomMask mask(run.seed, stream, p);
    const T scale = T(1 / (1 - p));
    for_each_task(batch.rows, run.threads, [&](ptrdiff_t row) {
      for (ptrdiff_t step = 0; step < batch.length(row) && !stopped(run); ++step)
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

  void convolve(const Run& run, const ConvolutionForward<T>& call) const override { cpu::convolve(run, call); }
  void convolve_gradient(const Run& run, const ConvolutionBackward<T>& call) const override {
    cpu::convolve_gradient(run, call);
  }

  void activation(const Run& run, const Batch& batch, ptrdiff_t features, int kind, Sequence<const T> x,
                  Sequence<T> y) const override {
    cpu::activation(run, batch, features, kind, x, y);
  }
  void activation_gradient(const Run& run, const Batch& batch, ptrdiff_t features, int kind, Sequence<const T> x,
                           Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) const override {
    cpu::activation_gradient(run, batch, features, kind, x, y, dy, dx);
  }

  void layer_norm(const Run& run, const Batch& batch, ptrdiff_t features, T eps, const T* gain, const T* shift,
                  Sequence<const T> x, Sequence<T> y, Sequence<T> statistics) const override {
    cpu::layer_norm(run, batch, features, eps, gain, shift, x, y, statistics);
  }
  void layer_norm_gradient(const Run& run, const Batch& batch, ptrdiff_t features, const T* gain,
                           Sequence<const T> statistics, Sequence<const T> x, Sequence<const T> dy, Sequence<T> dx,
                           T* dgain, T* dshift) const override {
    cpu::layer_norm_gradient(run, batch, features, gain, statistics, x, dy, dx, dgain, dshift);
  }

  void feature_statistics(const Run& run, const Batch& batch, ptrdiff_t features, Sequence<const T> x, T* mean,
                          T* variance) const override {
    cpu::feature_statistics(run, batch, features, x, mean, variance);
  }
  void feature_norm(const Run& run, const Batch& batch, ptrdiff_t features, const FeatureNorm<T>& norm, const T* shift,
                    Sequence<const T> x, Sequence<T> y) const override {
    cpu::feature_norm(run, batch, features, norm, shift, x, y);
  }
  void feature_norm_gradient(const Run& run, const Batch& batch, ptrdiff_t features, const FeatureNorm<T>& norm,
                             bool of_batch, Sequence<const T> x, Sequence<const T> dy, Sequence<T> dx, T* dgain,
                             T* dshift) const override {
    cpu::feature_norm_gradient(run, batch, features, norm, of_batch, x, dy, dx, dgain, dshift);
  }

  void pool(const Run& run, const Batch& batch, ptrdiff_t features, PoolKind kind, Sequence<const T> x,
            Sequence<T> y) const override {
    cpu::pool(run, batch, features, kind, x, y);
  }
  void pool_gradient(const Run& run, const Batch& batch, ptrdiff_t features, PoolKind kind, Sequence<const T> x,
                     Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) const override {
    cpu::pool_gradient(run, batch, features, kind, x, y, dy, dx);
  }
  void pool_windows(const Run& run, const WindowPool<T>& call, Sequence<T> y) const override {
    cpu::pool_windows(run, call, y);
  }
  void pool_windows_gradient(const Run& run, const WindowPool<T>& call, Sequence<const T> y, Sequence<const T> dy,
                             Sequence<T> dx, StateRows<T> dpast) const override {
    cpu::pool_windows_gradient(run, call, y, dy, dx, dpast);
  }
  void attend(const Run& run, const Batch& batch, const Attend<T>& call, Sequence<T> y) const override {
    cpu::attend(run, batch, call, y);
  }
  void attend_gradient(const Run& run, const Batch& batch, const Attend<T>& call, Sequence<const T> dy, Sequence<T> du,
                       T* dv) const override {
    cpu::attend_gradient(run, batch, call, dy, du, dv);
  }
  void attend_input_gradient(const Run& run, const Batch& batch, const Attend<T>& call, Sequence<const T> dy,
                             Sequence<T> dx) const override {
    cpu::attend_input_gradient(run, batch, call, dy, dx);
  }
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
