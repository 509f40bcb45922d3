#include "optim/optim.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "platform/tasks.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kBlock = 1 << 15;

template <class F>
void for_blocks(ptrdiff_t n, const F& f) {
  const ptrdiff_t blocks = (n + kBlock - 1) / kBlock;
  for_each_task(blocks, blocks < 4 ? 1 : num_threads(),
                [&](ptrdiff_t b) { f(b, b * kBlock, std::min(n, (b + 1) * kBlock)); });
}

template <class T>
T clamp(T x, T limit) {  // NaN stays NaN
  return std::min(std::max(x, -limit), limit);
}

// f(i, the gradient of element i) for all elements.
template <class T, class F>
void for_gradients(const T* grads, ptrdiff_t n, const StepOptions& o, const F& f) {
  const auto loop = [=](const auto& gradient) {
    for_blocks(n, [=](ptrdiff_t, ptrdiff_t begin, ptrdiff_t end) {
      for (ptrdiff_t i = begin; i < end; ++i) f(i, gradient(grads[i]));
    });
  };
  const T limit = T(o.limit), factor = T(o.factor), scale = T(o.scale), both = T(o.scale * o.factor);
  if (std::isinf(o.limit))
    loop([=](T g) { return g * both; });
  else
    loop([=](T g) { return clamp(g * scale, limit) * factor; });
}

// The sum of value(i)^2 over a block.
template <class F>
double sum_squares(ptrdiff_t begin, ptrdiff_t end, const F& value) {
  double partial[4] = {};
  for (ptrdiff_t i = begin; i < end; ++i) {
    const double x = double(value(i));
    partial[i & 3] += x * x;
  }
  return (partial[0] + partial[1]) + (partial[2] + partial[3]);
}

// The results of f(begin, end) for all blocks.
template <class R, class F>
std::vector<R> map_blocks(ptrdiff_t n, const F& f) {
  std::vector<R> results(size_t((n + kBlock - 1) / kBlock));
  for_blocks(n, [&](ptrdiff_t block, ptrdiff_t begin, ptrdiff_t end) { results[size_t(block)] = f(begin, end); });
  return results;
}

}  // namespace

template <class T>
void sgd_step(T* values, const T* grads, T* velocity, ptrdiff_t n, const StepOptions& common, const SgdOptions& o) {
  const T lr = T(common.lr), decay = T(common.weight_decay), momentum = T(o.momentum);
  const bool nesterov = o.nesterov;
  for_gradients(grads, n, common, [=](ptrdiff_t i, T gradient) {
    T step = gradient + decay * values[i];
    if (velocity) {
      velocity[i] = momentum * velocity[i] + step;
      step = nesterov ? step + momentum * velocity[i] : velocity[i];
    }
    values[i] -= lr * step;
  });
}

template <class T>
void adam_step(T* values, const T* grads, T* m, T* v, ptrdiff_t n, const StepOptions& common, const AdamOptions& o) {
  const double lr = common.lr, decay = common.weight_decay;
  const T beta1 = T(o.beta1), beta2 = T(o.beta2), rest1 = T(1 - o.beta1), rest2 = T(1 - o.beta2), eps = T(o.eps);
  const T rate = T(lr / (1 - std::pow(o.beta1, double(o.step))));
  const T root = T(1 / std::sqrt(1 - std::pow(o.beta2, double(o.step))));
  const T coupled = T(o.decoupled ? 0 : decay), shrink = T(o.decoupled ? 1 - lr * decay : 1);
  for_gradients(grads, n, common, [=](ptrdiff_t i, T gradient) {
    const T g = gradient + coupled * values[i];
    m[i] = beta1 * m[i] + rest1 * g;
    v[i] = beta2 * v[i] + rest2 * g * g;
    values[i] = shrink * values[i] - rate * m[i] / (std::sqrt(v[i]) * root + eps);
  });
}

template <class T>
void rmsprop_step(T* values, const T* grads, T* square, T* mean, T* velocity, ptrdiff_t n, const StepOptions& common,
                  const RmspropOptions& o) {
  const T lr = T(common.lr), decay = T(common.weight_decay), momentum = T(o.momentum), eps = T(o.eps);
  const T alpha = T(o.alpha), rest = T(1 - o.alpha);
  for_gradients(grads, n, common, [=](ptrdiff_t i, T gradient) {
    const T g = gradient + decay * values[i];
    square[i] = alpha * square[i] + rest * g * g;
    T variance = square[i];
    if (mean) {
      mean[i] += rest * (g - mean[i]);
      variance = std::max(variance - mean[i] * mean[i], T(0));  // rounding may leave less than nothing
    }
    T step = g / (std::sqrt(variance) + eps);
    if (velocity) step = velocity[i] = momentum * velocity[i] + step;
    values[i] -= lr * step;
  });
}

template <class T>
double squared_norm(const T* x, ptrdiff_t n) {
  double sum = 0;
  for (double s : map_blocks<double>(n, [=](ptrdiff_t begin, ptrdiff_t end) {
         return sum_squares(begin, end, [=](ptrdiff_t i) { return x[i]; });
       }))
    sum += s;
  return sum;
}

template <class T>
Clipped clipped_norm(const T* x, ptrdiff_t n, double scale_, double limit_) {
  const T scale = T(scale_), limit = T(limit_);
  Clipped sum = {0, 0};
  for (const Clipped& block : map_blocks<Clipped>(n, [=](ptrdiff_t begin, ptrdiff_t end) -> Clipped {
         ptrdiff_t count = 0;
         for (ptrdiff_t i = begin; i < end; ++i) count += std::abs(x[i] * scale) > limit;
         return {sum_squares(begin, end, [=](ptrdiff_t i) { return clamp(x[i] * scale, limit); }), count};
       })) {
    sum.squared_norm += block.squared_norm;
    sum.count += block.count;
  }
  return sum;
}

#define RECURRA_INSTANTIATE(T)                                                                                      \
  template void sgd_step(T*, const T*, T*, ptrdiff_t, const StepOptions&, const SgdOptions&);                       \
  template void adam_step(T*, const T*, T*, T*, ptrdiff_t, const StepOptions&, const AdamOptions&);                 \
  template void rmsprop_step(T*, const T*, T*, T*, T*, ptrdiff_t, const StepOptions&, const RmspropOptions&);       \
  template double squared_norm(const T*, ptrdiff_t);                                                                \
  template Clipped clipped_norm(const T*, ptrdiff_t, double, double)
RECURRA_INSTANTIATE(float);
RECURRA_INSTANTIATE(double);

}  // namespace recurra
