#include "optim/optim.h"

#include <algorithm>
#include <cmath>

namespace recurra {
namespace {

// An optimiser's call with the arguments that all have.
template <class Call, class T>
Call call_of(T* values, const T* grads, ptrdiff_t n, const StepOptions& o) {
  Call call = {};
  call.values = values;
  call.grads = grads;
  call.n = n;
  call.rule = {T(o.scale), T(o.limit), T(o.factor)};
  return call;
}

}  // namespace

template <class T>
void sgd_step(const Device<T>& device, T* values, const T* grads, T* velocity, ptrdiff_t n, const StepOptions& common,
              const SgdOptions& o) {
  auto call = call_of<SgdCall<T>>(values, grads, n, common);
  call.lr = T(common.lr);
  call.decay = T(common.weight_decay);
  call.momentum = T(o.momentum);
  call.velocity = velocity;
  call.nesterov = o.nesterov;
  device.sgd(call);
}

template <class T>
void adam_step(const Device<T>& device, T* values, const T* grads, T* m, T* v, ptrdiff_t n, const StepOptions& common,
               const AdamOptions& o) {
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
  device.adam(call);
}

template <class T>
void rmsprop_step(const Device<T>& device, T* values, const T* grads, T* square, T* mean, T* velocity, ptrdiff_t n,
                  const StepOptions& common, const RmspropOptions& o) {
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
  device.rmsprop(call);
}

template <class T>
void adagrad_step(const Device<T>& device, T* values, const T* grads, T* square, ptrdiff_t n, const StepOptions& common,
                  const AdagradOptions& o) {
  typedef RmspropCall<T> Call;  // with alpha = rest = 1, a sum of squares
  auto call = call_of<Call>(values, grads, n, common);
  call.lr = T(common.lr);
  call.decay = T(common.weight_decay);
  call.eps = T(o.eps);
  call.alpha = call.rest = T(1);
  call.square = square;
  device.rmsprop(call);
}

template <class T>
Norm gradient_norm(const Device<T>& device, const T* x, ptrdiff_t n, double scale, double limit, const int64_t* rows,
                   ptrdiff_t count) {
  const Numbers<T> numbers = {x, n, rows, count};
  const Clipped plain = device.sum_squares(numbers, T(scale), T(limit));
  constexpr double kLeast = 1e-280;  // a smaller sum has lost digits to underflow
  const Norm as_it_is = {plain.squared_norm, 0, plain.count};
  if (std::isnan(plain.squared_norm) || (plain.squared_norm >= kLeast && std::isfinite(plain.squared_norm)))
    return as_it_is;
  const double peak = device.peak(numbers);
  if (!(peak > 0) || !(scale > 0) || !(limit > 0) || (std::isinf(peak) && std::isinf(limit))) return as_it_is;
  // Squares of numbers around 2^kTarget neither overflow nor underflow, and scaling by a power of two is exact.
  constexpr int kTarget = sizeof(T) == 4 ? 60 : 400, kMost = 1000;
  int exponent = std::isinf(peak) ? std::ilogb(limit) : std::ilogb(peak) + std::ilogb(scale);
  if (std::isfinite(limit)) exponent = std::min(exponent, std::ilogb(limit));
  exponent = std::max(exponent - kTarget, -kMost);
  const Clipped scaled = device.sum_squares(numbers, T(std::ldexp(scale, -exponent)), T(std::ldexp(limit, -exponent)));
  return {scaled.squared_norm, exponent, scaled.count};
}

#define RECURRA_INSTANTIATE(T)                                                                                        \
  template void sgd_step(const Device<T>&, T*, const T*, T*, ptrdiff_t, const StepOptions&, const SgdOptions&);       \
  template void adam_step(const Device<T>&, T*, const T*, T*, T*, ptrdiff_t, const StepOptions&, const AdamOptions&); \
  template void rmsprop_step(const Device<T>&, T*, const T*, T*, T*, T*, ptrdiff_t, const StepOptions&,               \
                             const RmspropOptions&);                                                                  \
  template void adagrad_step(const Device<T>&, T*, const T*, T*, ptrdiff_t, const StepOptions&,                       \
                             const AdagradOptions&);                                                                  \
  template Norm gradient_norm(const Device<T>&, const T*, ptrdiff_t, double, double, const int64_t*, ptrdiff_t)
RECURRA_INSTANTIATE(float);
RECURRA_INSTANTIATE(double);
#undef RECURRA_INSTANTIATE

}  // namespace recurra
