// Walks over the valid steps of a batch, and sums over them in an order that follows from the shape alone.
#pragma once
#include <algorithm>

#include "cpu/ops/matrix.h"

namespace recurra {

// Calls f(row, step) for every valid step, rows shared out to threads.
template <class F>
void for_each_step(const Run& run, const Batch& batch, const F& f) {
  for_each_task(batch.rows, run.threads, [&](ptrdiff_t row) {
    for (ptrdiff_t step = 0; step < batch.length(row) && !stopped(run); ++step) f(row, step);
  });
}

// sum (n) = the sum over `count` steps of what add(i, sums) adds to `sums`, in short runs, so that long rows lose no
// digits; scratch (n).
template <class T, class F>
void sum_steps(ptrdiff_t count, ptrdiff_t n, T* sum, T* scratch, const F& add) {
  constexpr ptrdiff_t kShortRun = 64;
  std::fill_n(sum, n, T(0));
  for (ptrdiff_t begin = 0; begin < count; begin += kShortRun) {
    std::fill_n(scratch, n, T(0));
    for (ptrdiff_t i = begin; i < std::min(count, begin + kShortRun); ++i) add(i, scratch);
    kernels<T>().rows.add_scaled(T(1), scratch, sum, n);
  }
}

// total (n) += the sum over all valid steps of what add(row, step, sums) adds to `sums`: in short runs, blocks of some
// 256 steps of the batch, then the total, each level in order. Blocks are shared out to threads.
template <class T, class F>
void sum_over_steps(const Run& run, const Batch& batch, ptrdiff_t n, T* total, const F& add) {
  constexpr ptrdiff_t kBlock = 256, kShortRun = 16;
  if (batch.rows == 0 || batch.steps == 0) return;
  const ptrdiff_t rows = std::max<ptrdiff_t>(1, kBlock / batch.steps), row_blocks = (batch.rows + rows - 1) / rows;
  const ptrdiff_t step_blocks = (batch.steps + kBlock - 1) / kBlock, blocks = row_blocks * step_blocks;
  T* sums = run.arena.template take<T>(size_t(blocks * 2 * n));
  for_each_task(blocks, run.threads, [&](ptrdiff_t i) {
    T *block = sums + i * 2 * n, *short_run = block + n;
    std::fill_n(block, 2 * n, T(0));
    ptrdiff_t count = 0;
    const auto flush = [&] {
      kernels<T>().rows.add_scaled(T(1), short_run, block, n);
      std::fill_n(short_run, n, T(0));
      count = 0;
    };
    const ptrdiff_t first = i / step_blocks * rows, begin = i % step_blocks * kBlock;
    for (ptrdiff_t row = first; row < std::min(batch.rows, first + rows); ++row)
      for (ptrdiff_t step = begin; step < std::min(batch.length(row), begin + kBlock) && !stopped(run); ++step) {
        add(row, step, short_run);
        if (++count == kShortRun) flush();
      }
    if (count) flush();
  });
  for (ptrdiff_t i = 0; i < blocks; ++i) kernels<T>().rows.add_scaled(T(1), sums + i * 2 * n, total, n);
}

}  // namespace recurra
