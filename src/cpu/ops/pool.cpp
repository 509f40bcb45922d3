#include "cpu/device.h"
#include "cpu/ops/steps.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kPollWindows = 64;  // between two looks at the clock

// The steps of a row's last episode are [first_step, length).
ptrdiff_t first_step(const Batch& batch, ptrdiff_t row) { return std::max<ptrdiff_t>(0, batch.last_reset(row)); }

// Calls f(row, first step, end, scratch (n) of the row) for every row.
template <class T, class F>
void for_each_row(const Run& run, const Batch& batch, ptrdiff_t n, const F& f) {
  T* scratch = run.arena.template take<T>(size_t(batch.rows * n));
  for_each_task(batch.rows, run.threads, [&](ptrdiff_t row) {
    if (!stopped(run)) f(row, first_step(batch, row), batch.length(row), scratch + row * n);
  });
}

// Zeros where a row has steps before its last episode.
template <class T>
void zero_earlier(Sequence<T> dx, ptrdiff_t row, ptrdiff_t first, ptrdiff_t features) {
  for (ptrdiff_t step = 0; step < first; ++step) std::fill_n(dx.at(row, step), features, T(0));
}

// A row's inputs as windows see them: steps of x, before them what is kept of the past.
template <class T>
struct WindowRow {
  const PooledWindows<T>& call;
  ptrdiff_t row;
  ptrdiff_t kept() const { return call.count.data ? ptrdiff_t(*call.count.at(row)) : 0; }
  const T* at(ptrdiff_t step) const {
    const ConvolutionSpec& spec = *call.spec;
    return step >= 0 ? call.x.at(row, step) : call.past.at(row) + (spec.left + step) * spec.in;
  }
};

// Calls f(output step, [begin, end) of its inputs) for every window of a row.
template <class T, class F>
void for_each_window(const WindowRow<T>& from, const F& f) {
  const ConvolutionSpec& spec = *from.call.spec;
  const Batch& batch = *from.call.batch;
  const ptrdiff_t length = batch.length(from.row);
  const auto starts = [&](ptrdiff_t step) {
    return batch.reset && batch.reset[from.row * batch.reset_row + step * batch.reset_step];
  };
  ptrdiff_t start = -std::min(from.kept(), spec.left);
  for (ptrdiff_t t = 0; t < spec.output_steps(length); ++t) {
    const ptrdiff_t first = t * spec.stride - spec.left, own = t * spec.stride;
    if (batch.reset && starts(own)) start = own;  // then every step has an output
    ptrdiff_t end = std::min(length, first + spec.span());
    for (ptrdiff_t step = own + 1; batch.reset && step < end; ++step)
      if (starts(step)) end = step;
    f(t, std::max(first, start), end);
  }
}

// The inputs of a window: steps [begin, end), and in each the rows and columns of an image that exist, of one place if
// there is no image.
struct Cuboid {
  ptrdiff_t begin, end, row, row_end, column, column_end;
  ptrdiff_t steps() const { return end - begin; }
  ptrdiff_t columns() const { return column_end - column; }
  ptrdiff_t count() const { return steps() * (row_end - row) * columns(); }
};

// Calls f(first feature of the output, inputs) for each place of an output step, whose window has steps [begin, end).
template <class F>
void for_each_place(const ConvolutionSpec& spec, ptrdiff_t begin, ptrdiff_t end, const F& f) {
  const ptrdiff_t channels = spec.in_channels();
  const auto first = [](const ImageAxis& axis, ptrdiff_t i) { return i * axis.stride - axis.before; };
  ptrdiff_t to = 0;
  for (ptrdiff_t i = 0; i < spec.rows.outputs(); ++i)
    for (ptrdiff_t j = 0; j < spec.columns.outputs(); ++j, to += channels) {
      const ptrdiff_t row = first(spec.rows, i), column = first(spec.columns, j);
      f(to, Cuboid{begin, end, std::max<ptrdiff_t>(0, row), std::min(spec.rows.size, row + spec.rows.kernel),
                   std::max<ptrdiff_t>(0, column), std::min(spec.columns.size, column + spec.columns.kernel)});
    }
}

// The inputs of a window in turn: all steps of a row and column, then the next ones, in PyTorch's order where the steps
// are an image's columns.
class WindowInput {
 public:
  WindowInput(const ConvolutionSpec& spec, const Cuboid& window)
      : window_(window),
        width_(spec.columns.size),
        channels_(spec.in_channels()),
        step_(window.begin),
        row_(window.row),
        column_(window.column) {}
  ptrdiff_t step() const { return step_; }
  ptrdiff_t feature() const { return (row_ * width_ + column_) * channels_; }  // the first one of the place
  void advance() {
    if (++step_ < window_.end) return;
    step_ = window_.begin;
    if (++column_ < window_.column_end) return;
    column_ = window_.column;
    ++row_;
  }

 private:
  const Cuboid& window_;
  ptrdiff_t width_, channels_, step_, row_, column_;
};

}  // namespace

template <class T>
void CpuDevice<T>::pool(const Run& run, const Batch& batch, ptrdiff_t features, PoolKind kind, Sequence<const T> x,
                        Sequence<T> y) const {
  const RowKernels<T>& rows = kernels<T>().rows;
  for_each_row<T>(run, batch, features, [&](ptrdiff_t row, ptrdiff_t first, ptrdiff_t end, T* scratch) {
    T* to = y.at(row, 0);
    if (first >= end) {
      std::fill_n(to, features, T(0));
    } else if (kind == PoolKind::kLast) {
      std::copy_n(x.at(row, end - 1), features, to);
    } else if (kind == PoolKind::kMax) {
      std::copy_n(x.at(row, first), features, to);
      for (ptrdiff_t step = first + 1; step < end; ++step) rows.keep_max(x.at(row, step), to, features);
    } else {
      sum_steps(end - first, features, to, scratch,
                [&](ptrdiff_t i, T* sums) { rows.add_scaled(T(1), x.at(row, first + i), sums, features); });
      for (ptrdiff_t k = 0; k < features; ++k) to[k] /= T(end - first);
    }
  });
}

template <class T>
void CpuDevice<T>::pool_gradient(const Run& run, const Batch& batch, ptrdiff_t features, PoolKind kind,
                                 Sequence<const T> x, Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) const {
  for_each_row<T>(run, batch, features, [&](ptrdiff_t row, ptrdiff_t first, ptrdiff_t end, T* left) {
    if (kind == PoolKind::kLast) first = std::max(first, end - 1);
    zero_earlier(dx, row, first, features);
    std::copy_n(dy.at(row, 0), features, left);
    if (kind == PoolKind::kMean)
      for (ptrdiff_t k = 0; k < features; ++k) left[k] /= T(std::max<ptrdiff_t>(1, end - first));
    for (ptrdiff_t step = first; step < end; ++step) {
      if (kind == PoolKind::kMax)
        kernels<T>().rows.give_max(x.at(row, step), y.at(row, 0), left, dx.at(row, step), features);
      else
        std::copy_n(left, features, dx.at(row, step));
    }
  });
}

template <class T>
void CpuDevice<T>::pool_windows(const Run& run, const PooledWindows<T>& call, Sequence<T> y) const {
  const RowKernels<T>& rows = kernels<T>().rows;
  const ConvolutionSpec& spec = *call.spec;
  const ptrdiff_t n = spec.in_channels();
  for_each_row<T>(run, *call.batch, n, [&](ptrdiff_t row, ptrdiff_t, ptrdiff_t, T* scratch) {
    const WindowRow<T> from = {call, row};
    for_each_window(from, [&](ptrdiff_t t, ptrdiff_t begin, ptrdiff_t end) {
      if (t % kPollWindows == 0 && stopped(run)) return;
      for_each_place(spec, begin, end, [&](ptrdiff_t feature, const Cuboid& window) {
        T* const to = y.at(row, t) + feature;
        WindowInput input(spec, window);
        const auto next = [&] {
          const T* found = from.at(input.step()) + input.feature();
          input.advance();
          return found;
        };
        if (call.kind == PoolKind::kMax) {
          std::copy_n(next(), n, to);
          for (ptrdiff_t i = 1; i < window.count(); ++i) rows.keep_max(next(), to, n);
        } else {
          sum_steps(window.count(), n, to, scratch,
                    [&](ptrdiff_t, T* sums) { rows.add_scaled(T(1), next(), sums, n); });
          for (ptrdiff_t k = 0; k < n; ++k) to[k] /= T(window.count());
        }
      });
    });
  });
}

template <class T>
void CpuDevice<T>::pool_windows_gradient(const Run& run, const PooledWindows<T>& call, Sequence<const T> y,
                                         Sequence<const T> dy, Sequence<T> dx, StateRows<T> dpast) const {
  const RowKernels<T>& rows = kernels<T>().rows;
  const ConvolutionSpec& spec = *call.spec;
  const ptrdiff_t n = spec.in_channels();
  for_each_row<T>(run, *call.batch, 2 * n, [&](ptrdiff_t row, ptrdiff_t, ptrdiff_t, T* left) {
    const WindowRow<T> from = {call, row};
    T* const part = left + n;
    for_each_window(from, [&](ptrdiff_t t, ptrdiff_t begin, ptrdiff_t end) {
      if (t % kPollWindows == 0 && stopped(run)) return;
      for_each_place(spec, begin, end, [&](ptrdiff_t feature, const Cuboid& window) {
        std::copy_n(dy.at(row, t) + feature, n, left);
        WindowInput input(spec, window);
        for (ptrdiff_t i = 0; i < window.count(); ++i, input.advance()) {
          const ptrdiff_t step = input.step(), place = input.feature();
          T* to = nullptr;
          if (step >= 0 && dx.data) to = dx.at(row, step) + place;
          if (step < 0 && dpast.data) to = dpast.at(row) + (spec.left + step) * spec.in + place;
          if (call.kind == PoolKind::kMax) {
            rows.give_max(from.at(step) + place, y.at(row, t) + feature, left, part, n);
            if (to) rows.add_scaled(T(1), part, to, n);
          } else if (to) {
            rows.add_scaled(T(1) / T(window.count()), left, to, n);
          }
        }
      });
    });
  });
}

template <class T>
void CpuDevice<T>::attend(const Run& run, const Batch& batch, const Attend<T>& call, Sequence<T> y) const {
  const RowKernels<T>& rows = kernels<T>().rows;
  for_each_row<T>(run, batch, call.features, [&](ptrdiff_t row, ptrdiff_t first, ptrdiff_t end, T* scratch) {
    T* weights = call.weights.at(row, 0);
    std::fill_n(weights, end, T(0));
    for (ptrdiff_t step = first; step < end; ++step)
      weights[step] = rows.dot(call.u.at(row, step), call.v, call.hidden);
    if (first < end) rows.activation[kSoftmax](weights + first, weights + first, end - first);
    sum_steps(end - first, call.features, y.at(row, 0), scratch, [&](ptrdiff_t i, T* sums) {
      rows.add_scaled(weights[first + i], call.x.at(row, first + i), sums, call.features);
    });
  });
}

template <class T>
void CpuDevice<T>::attend_gradient(const Run& run, const Batch& batch, const Attend<T>& call, Sequence<const T> dy,
                                   Sequence<T> du, T* dv) const {
  const RowKernels<T>& rows = kernels<T>().rows;
  const Sequence<T> dscores = take_sequence<T>(run.arena, batch, 1);
  for_each_row<T>(run, batch, 0, [&](ptrdiff_t row, ptrdiff_t first, ptrdiff_t end, T*) {
    const T* weights = call.weights.at(row, 0);
    T* d = dscores.at(row, 0);
    std::fill_n(d, end, T(0));
    for (ptrdiff_t step = first; step < end; ++step)
      d[step] = rows.dot(call.x.at(row, step), dy.at(row, 0), call.features);
    if (first < end) rows.activation_gradient[kSoftmax](nullptr, weights + first, d + first, d + first, end - first);
    for (ptrdiff_t step = 0; step < end; ++step) {
      std::fill_n(du.at(row, step), call.hidden, T(0));
      rows.add_scaled(d[step], call.v, du.at(row, step), call.hidden);
    }
  });
  sum_over_steps(run, batch, call.hidden, dv, [&](ptrdiff_t row, ptrdiff_t step, T* sums) {
    rows.add_scaled(*dscores.at(row, step), call.u.at(row, step), sums, call.hidden);
  });
}

template <class T>
void CpuDevice<T>::attend_input_gradient(const Run& run, const Batch& batch, const Attend<T>& call,
                                         Sequence<const T> dy, Sequence<T> dx) const {
  for_each_step(run, batch, [&](ptrdiff_t row, ptrdiff_t step) {
    kernels<T>().rows.add_scaled(*call.weights.at(row, step), dy.at(row, 0), dx.at(row, step), call.features);
  });
}

#define RECURRA_INSTANCES(T)                                                                                       \
  template void CpuDevice<T>::pool(const Run&, const Batch&, ptrdiff_t, PoolKind, Sequence<const T>, Sequence<T>)  \
      const;                                                                                                       \
  template void CpuDevice<T>::pool_gradient(const Run&, const Batch&, ptrdiff_t, PoolKind, Sequence<const T>,      \
                                            Sequence<const T>, Sequence<const T>, Sequence<T>) const;              \
  template void CpuDevice<T>::pool_windows(const Run&, const PooledWindows<T>&, Sequence<T>) const;                \
  template void CpuDevice<T>::pool_windows_gradient(const Run&, const PooledWindows<T>&, Sequence<const T>,        \
                                                    Sequence<const T>, Sequence<T>, StateRows<T>) const;           \
  template void CpuDevice<T>::attend(const Run&, const Batch&, const Attend<T>&, Sequence<T>) const;               \
  template void CpuDevice<T>::attend_gradient(const Run&, const Batch&, const Attend<T>&, Sequence<const T>,       \
                                              Sequence<T>, T*) const;                                              \
  template void CpuDevice<T>::attend_input_gradient(const Run&, const Batch&, const Attend<T>&, Sequence<const T>, \
                                                    Sequence<T>) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
