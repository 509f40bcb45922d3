#include "optim/optim.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

#include "backend/isa.h"
#include "platform/tasks.h"

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

template <class T>
Clipped sum_clipped(const T* x, ptrdiff_t n, T scale, T limit) {
  std::vector<Clipped> sums(size_t((n + kBlock - 1) / kBlock));
  for_blocks(n, [&](ptrdiff_t block, ptrdiff_t begin, ptrdiff_t end) {
    sums[size_t(block)] = kernels<T>().optim.sum_squares(x + begin, end - begin, scale, limit);
  });
  Clipped all = {0, 0};
  for (const Clipped& sum : sums) {
    all.squared_norm += sum.squared_norm;
    all.count += sum.count;
  }
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
  call.rate = T(common.lr / (1 - std::pow(o.beta1, double(o.step))));
  call.root = T(1 / std::sqrt(1 - std::pow(o.beta2, double(o.step))));
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
double squared_norm(const T* x, ptrdiff_t n) {
  return sum_clipped(x, n, T(1), std::numeric_limits<T>::infinity()).squared_norm;
}

template <class T>
Clipped clipped_norm(const T* x, ptrdiff_t n, double scale, double limit) {
  return sum_clipped(x, n, T(scale), T(limit));
}

#define RECURRA_INSTANTIATE(T)                                                                                \
  template void sgd_step(T*, const T*, T*, ptrdiff_t, const StepOptions&, const SgdOptions&);                 \
  template void adam_step(T*, const T*, T*, T*, ptrdiff_t, const StepOptions&, const AdamOptions&);           \
  template void rmsprop_step(T*, const T*, T*, T*, T*, ptrdiff_t, const StepOptions&, const RmspropOptions&); \
  template double squared_norm(const T*, ptrdiff_t);                                                          \
  template Clipped clipped_norm(const T*, ptrdiff_t, double, double)
RECURRA_INSTANTIATE(float);
RECURRA_INSTANTIATE(double);

}  // namespace recurra
