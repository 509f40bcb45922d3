#include "optim/optim.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <vector>

#include "cpu/isa.h"
#include "optim/rows.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kBlock = 1 << 15;

template <class F>
void for_blocks(ptrdiff_t n, const F& f) {
  const ptrdiff_t blocks = (n + kBlock - 1) / kBlock;
  for_each_task(blocks, threads_for(double(blocks), 4),
                [&](ptrdiff_t b) { f(b, b * kBlock, std::min(n, (b + 1) * kBlock)); });
}

// An optimiser's call, but for what is its own.
template <class Call, class T>
Call call_of(T* values, const T* grads, ptrdiff_t n, const StepOptions& o) {
  Call call = {};
  call.values = values;
  call.grads = grads;
  call.n = n;
  call.rule = {T(o.scale), T(o.limit), T(o.factor)};
  return call;
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

// What a norm is taken of: n numbers, or rows of n numbers each.
template <class T>
struct Numbers {
  const T* x;
  ptrdiff_t n;
  const int64_t* rows;  // null: there is one stretch
  ptrdiff_t count;      // of the rows

  // f(block, stretch, its size); the stretches of a block follow each other on one thread.
  template <class F>
  void for_each(const F& f) const {
    if (rows)
      for_row_blocks(rows, count, n, [&](ptrdiff_t block, int64_t row) { f(block, x + row * n, n); });
    else
      for_blocks(n, [&](ptrdiff_t block, ptrdiff_t begin, ptrdiff_t end) { f(block, x + begin, end - begin); });
  }
  ptrdiff_t blocks() const { return rows ? row_blocks(count) : (n + kBlock - 1) / kBlock; }
};

template <class T>
Clipped sum_clipped(const Numbers<T>& numbers, T scale, T limit) {
  std::vector<Clipped> sums(size_t(numbers.blocks()), Clipped{0, 0});
  numbers.for_each([&](ptrdiff_t block, const T* x, ptrdiff_t n) {
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

// The largest absolute value; infinite if one is, NaN if one is.
template <class T>
double peak_of(const Numbers<T>& numbers) {
  std::vector<double> peaks(size_t(numbers.blocks()), 0.0);
  numbers.for_each([&](ptrdiff_t block, const T* x, ptrdiff_t n) {
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

}  // namespace

template <class T>
void sgd_step(T* values, const T* grads, T* velocity, ptrdiff_t n, const StepOptions& common, const SgdOptions& o) {
  auto call = call_of<SgdCall<T>>(values, grads, n, common);
  call.lr = T(common.lr);
  call.decay = T(common.weight_decay);
  call.momentum = T(o.momentum);
  call.velocity = velocity;
  call.nesterov = o.nesterov;
  for_updates<T>(call, kernels<T>().optim.sgd, {&SgdCall<T>::velocity});
}

template <class T>
void adam_step(T* values, const T* grads, T* m, T* v, ptrdiff_t n, const StepOptions& common, const AdamOptions& o) {
  auto call = call_of<AdamCall<T>>(values, grads, n, common);
  call.beta1 = T(o.beta1);
  call.beta2 = T(o.beta2);
  call.rest1 = T(1 - o.beta1);
  call.rest2 = T(1 - o.beta2);
  call.eps = T(o.eps);
  const double root = std::sqrt(1 - std::pow(o.beta2, double(o.step)));
  call.rate = T(common.lr * (o.bare_eps ? root : 1) / (1 - std::pow(o.beta1, double(o.step))));
  call.root = T(o.bare_eps ? 1 : 1 / root);
  call.coupled = T(o.decoupled ? 0 : common.weight_decay);
  call.shrink = T(o.decoupled ? 1 - common.lr * common.weight_decay : 1);
  call.m = m;
  call.v = v;
  for_updates<T>(call, kernels<T>().optim.adam, {&AdamCall<T>::m, &AdamCall<T>::v});
}

template <class T>
void rmsprop_step(T* values, const T* grads, T* square, T* mean, T* velocity, ptrdiff_t n, const StepOptions& common,
                  const RmspropOptions& o) {
  typedef RmspropCall<T> Call;
  auto call = call_of<Call>(values, grads, n, common);
  call.lr = T(common.lr);
  call.decay = T(common.weight_decay);
  call.momentum = T(o.momentum);
  call.eps = T(o.eps);
  call.alpha = T(o.alpha);
  call.rest = T(1 - o.alpha);
  call.square = square;
  call.mean = mean;
  call.velocity = velocity;
  for_updates<T>(call, kernels<T>().optim.rmsprop, {&Call::square, &Call::mean, &Call::velocity});
}

template <class T>
void adagrad_step(T* values, const T* grads, T* square, ptrdiff_t n, const StepOptions& common,
                  const AdagradOptions& o) {
  typedef RmspropCall<T> Call;  // which forgets nothing
  auto call = call_of<Call>(values, grads, n, common);
  call.lr = T(common.lr);
  call.decay = T(common.weight_decay);
  call.eps = T(o.eps);
  call.alpha = call.rest = T(1);
  call.square = square;
  for_updates<T>(call, kernels<T>().optim.rmsprop, {&Call::square});
}

template <class T>
Norm gradient_norm(const T* x, ptrdiff_t n, double scale, double limit, const int64_t* rows, ptrdiff_t count) {
  const Numbers<T> numbers = {x, n, rows, count};
  const Clipped plain = sum_clipped(numbers, T(scale), T(limit));
  constexpr double kLeast = 1e-280;  // below, squares lose digits
  const Norm as_it_is = {plain.squared_norm, 0, plain.count};
  if (std::isnan(plain.squared_norm) || (plain.squared_norm >= kLeast && std::isfinite(plain.squared_norm)))
    return as_it_is;
  const double peak = peak_of(numbers);
  if (!(peak > 0) || !(scale > 0) || !(limit > 0) || (std::isinf(peak) && std::isinf(limit))) return as_it_is;
  // Squares of numbers around 2^kTarget neither overflow nor vanish. What is halved or doubled keeps its digits.
  constexpr int kTarget = sizeof(T) == 4 ? 60 : 400, kMost = 1000;
  int exponent = std::isinf(peak) ? std::ilogb(limit) : std::ilogb(peak) + std::ilogb(scale);
  if (std::isfinite(limit)) exponent = std::min(exponent, std::ilogb(limit));
  exponent = std::max(exponent - kTarget, -kMost);
  const Clipped scaled = sum_clipped(numbers, T(std::ldexp(scale, -exponent)), T(std::ldexp(limit, -exponent)));
  return {scaled.squared_norm, exponent, scaled.count};
}

#define RECURRA_INSTANTIATE(T)                                                                                \
  template void sgd_step(T*, const T*, T*, ptrdiff_t, const StepOptions&, const SgdOptions&);                 \
  template void adam_step(T*, const T*, T*, T*, ptrdiff_t, const StepOptions&, const AdamOptions&);           \
  template void rmsprop_step(T*, const T*, T*, T*, T*, ptrdiff_t, const StepOptions&, const RmspropOptions&); \
  template void adagrad_step(T*, const T*, T*, ptrdiff_t, const StepOptions&, const AdagradOptions&);         \
  template Norm gradient_norm(const T*, ptrdiff_t, double, double, const int64_t*, ptrdiff_t)
RECURRA_INSTANTIATE(float);
RECURRA_INSTANTIATE(double);

}  // namespace recurra
