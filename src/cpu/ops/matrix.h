// What all products on the CPU share: padding to whole vectors, packing, and sums of outer products in one order.
#pragma once
#include <algorithm>
#include <vector>

#include "cpu/isa.h"
#include "cpu/packing.h"
#include "device/device.h"
#include "platform/tasks.h"

namespace recurra {

// Rows that a weight gradient sums before it is written: fixed, so bits do not depend on threads.
constexpr ptrdiff_t kOuterRows = 256;

inline bool stopped(const Run& run) { return run.stop && run.stop->poll(); }

template <class T>
ptrdiff_t padded(ptrdiff_t columns) {
  const ptrdiff_t lanes = kernels<T>().lanes;
  return (columns + lanes - 1) / lanes * lanes;
}

// Calls f(first column, columns, columns padded to vectors, where its panel begins) for a packed matrix.
template <class T, class F>
void for_panels(T* packed, ptrdiff_t k, ptrdiff_t columns, const F& f) {
  const ptrdiff_t lanes = kernels<T>().lanes;
  const ColumnPanels panels = {padded<T>(columns) / lanes, kernels<T>().tile_vectors};
  for (ptrdiff_t p = 0; p < panels.count(); ++p) {
    const ptrdiff_t from = panels.begin(p) * lanes, width = panels.begin(p + 1) * lanes - from;
    f(from, std::min(width, columns - from), width, packed + from * k);
  }
}

// Rows of `columns` as the right side of a product that sums over the rows, or (turned) over the columns.
template <class T>
void pack_rows(const T* x, ptrdiff_t x_row, ptrdiff_t rows, ptrdiff_t columns, T* packed) {
  for_panels(packed, rows, columns, [&](ptrdiff_t from, ptrdiff_t n, ptrdiff_t width, T* to) {
    for (ptrdiff_t r = 0; r < rows; ++r, to += width)
      std::fill(std::copy_n(x + r * x_row + from, n, to), to + width, T(0));
  });
}
template <class T>
void pack_turned(const T* x, ptrdiff_t x_row, ptrdiff_t rows, ptrdiff_t columns, T* packed) {
  for_panels(packed, columns, rows, [&](ptrdiff_t from, ptrdiff_t n, ptrdiff_t width, T* to) {
    transpose<false>(to, width, x + from * x_row, x_row, n, columns);
    for (ptrdiff_t k = 0; n < width && k < columns; ++k) std::fill_n(to + k * width + n, width - n, T(0));
  });
}

// As a ProductCall wants it; null stays null.
template <class T>
const T* padded_bias(const Run& run, const T* bias, ptrdiff_t columns) {
  if (!bias) return nullptr;
  T* made = run.arena.template take<T>(size_t(padded<T>(columns)));
  std::fill_n(std::copy_n(bias, columns, made), padded<T>(columns) - columns, T(0));
  return made;
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

// gradient (out, in) += sum of dy x^T, bias_gradient (out; null: none) += sum of dy. `blocks(task, add)` calls
// add(count, x, x_row, dy, dy_row) for blocks of at most kOuterRows rows, the same ones in the same order for each of
// at most run.threads tasks.
template <class T, class Blocks>
void outer_sum(const Run& run, ptrdiff_t in, ptrdiff_t out, T* gradient, T* bias_gradient, const Blocks& blocks) {
  // Tasks are columns of the result, so each element has one order of summation.
  const ptrdiff_t lanes = kernels<T>().lanes, vectors = padded<T>(out) / lanes;
  const ptrdiff_t tasks = std::min<ptrdiff_t>(std::max<ptrdiff_t>(1, vectors / 4), run.threads);
  std::vector<T*> sums(static_cast<size_t>(tasks)), scratch(static_cast<size_t>(tasks));
  const auto column = [&](ptrdiff_t i) { return std::min(out, vectors * i / tasks * lanes); };
  for (ptrdiff_t i = 0; i < tasks; ++i) {
    const ptrdiff_t width = padded<T>(column(i + 1) - column(i));
    sums[size_t(i)] = run.arena.template take<T>(size_t(in * width));
    scratch[size_t(i)] = run.arena.template take<T>(size_t(kOuterRows * width));
  }
  for_each_task(tasks, run.threads, [&](ptrdiff_t i) {
    const ptrdiff_t from = column(i), n = column(i + 1) - from, width = padded<T>(n);
    T* sum = sums[size_t(i)];
    std::fill_n(sum, in * width, T(0));
    blocks(i, [&](ptrdiff_t count, const T* x, ptrdiff_t x_row, const T* dy, ptrdiff_t dy_row) {
      OuterCall<T> c = {count, in, n, x, x_row, dy + from, dy_row, sum, width, scratch[size_t(i)]};
      kernels<T>().outer(c);
      if (bias_gradient) add_rows(dy + from, dy_row, count, n, scratch[size_t(i)], bias_gradient + from);
    });
    transpose<true>(gradient + from * in, in, static_cast<const T*>(sum), width, in, n);
  });
}

}  // namespace recurra
