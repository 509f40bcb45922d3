// Optimisers' steps and the sums over gradients, in blocks that follow from the size alone.
#include <cmath>
#include <initializer_list>

#include "cpu/device.h"
#include "cpu/isa.h"
#include "device/row_blocks.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kElementBlock = 1 << 15;

template <class F>
void for_blocks(ptrdiff_t n, const F& f) {
  const ptrdiff_t blocks = (n + kElementBlock - 1) / kElementBlock;
  for_each_task(blocks, threads_for(double(blocks), 4),
                [&](ptrdiff_t b) { f(b, b * kElementBlock, std::min(n, (b + 1) * kElementBlock)); });
}

// Runs a kernel over the blocks of its call; `buffers` are the optimiser's own, which may be null.
template <class T, class Call>
void for_updates(const Call& call, void (*kernel)(Call), std::initializer_list<T * Call::*> buffers) {
  for_blocks(call.n, [&](ptrdiff_t, ptrdiff_t begin, ptrdiff_t end) {
    Call block = call;
    block.values += begin;
    block.grads += begin;
    block.n = end - begin;
    for (T* Call::*buffer : buffers)
      if (block.*buffer) block.*buffer += begin;
    kernel(block);
  });
}

// f(block, stretch, its size); the stretches of a block follow each other on one thread.
template <class T, class F>
void for_each_stretch(const Numbers<T>& numbers, const F& f) {
  const T* x = numbers.x;
  const ptrdiff_t n = numbers.n;
  if (numbers.rows)
    for_row_blocks(numbers.rows, numbers.count, n, [&](ptrdiff_t block, int64_t row) { f(block, x + row * n, n); });
  else
    for_blocks(n, [&](ptrdiff_t block, ptrdiff_t begin, ptrdiff_t end) { f(block, x + begin, end - begin); });
}
template <class T>
size_t blocks_of(const Numbers<T>& numbers) {
  return size_t(numbers.rows ? row_blocks(numbers.count) : (numbers.n + kElementBlock - 1) / kElementBlock);
}

}  // namespace

template <class T>
void CpuDevice<T>::sgd(const SgdCall<T>& call) const {
  for_updates<T>(call, kernels<T>().optim.sgd, {&SgdCall<T>::velocity});
}

template <class T>
void CpuDevice<T>::adam(const AdamCall<T>& call) const {
  for_updates<T>(call, kernels<T>().optim.adam, {&AdamCall<T>::m, &AdamCall<T>::v});
}

template <class T>
void CpuDevice<T>::rmsprop(const RmspropCall<T>& call) const {
  typedef RmspropCall<T> Call;
  for_updates<T>(call, kernels<T>().optim.rmsprop, {&Call::square, &Call::mean, &Call::velocity});
}

template <class T>
Clipped CpuDevice<T>::sum_squares(const Numbers<T>& numbers, T scale, T limit) const {
  std::vector<Clipped> sums(blocks_of(numbers), Clipped{0, 0});
  for_each_stretch(numbers, [&](ptrdiff_t block, const T* x, ptrdiff_t n) {
    const Clipped sum = kernels<T>().optim.sum_squares(x, n, scale, limit);
    sums[size_t(block)].squared_norm += sum.squared_norm;
    sums[size_t(block)].count += sum.count;
  });
  Clipped all = {0, 0};
  for (const Clipped& sum : sums) {
    all.squared_norm += sum.squared_norm;
    all.count += sum.count;
  }
  return all;
}

template <class T>
double CpuDevice<T>::peak(const Numbers<T>& numbers) const {
  std::vector<double> peaks(blocks_of(numbers), 0.0);
  for_each_stretch(numbers, [&](ptrdiff_t block, const T* x, ptrdiff_t n) {
    double& peak = peaks[size_t(block)];
    for (ptrdiff_t i = 0; i < n; ++i) {
      const double size = std::abs(double(x[i]));
      if (!(size <= peak)) peak = std::isnan(peak) ? peak : size;
    }
  });
  double all = 0;
  for (double peak : peaks)
    if (!(peak <= all)) all = std::isnan(all) ? all : peak;
  return all;
}

#define RECURRA_INSTANCES(T)                                                 \
  template void CpuDevice<T>::sgd(const SgdCall<T>&) const;                  \
  template void CpuDevice<T>::adam(const AdamCall<T>&) const;                \
  template void CpuDevice<T>::rmsprop(const RmspropCall<T>&) const;          \
  template Clipped CpuDevice<T>::sum_squares(const Numbers<T>&, T, T) const; \
  template double CpuDevice<T>::peak(const Numbers<T>&) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
