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

}  // namespace

template <class T>
void sgd_step(T* values, const T* grads, T* velocity, ptrdiff_t n, const SgdOptions& o) {
  const T lr = T(o.lr), momentum = T(o.momentum), decay = T(o.weight_decay), scale = T(o.scale);
  for_blocks(n, [=](ptrdiff_t, ptrdiff_t begin, ptrdiff_t end) {
    for (ptrdiff_t i = begin; i < end; ++i) {
      T step = grads[i] * scale + decay * values[i];
      if (velocity) {
        velocity[i] = momentum * velocity[i] + step;
        step = o.nesterov ? step + momentum * velocity[i] : velocity[i];
      }
      values[i] -= lr * step;
    }
  });
}

template <class T>
void adam_step(T* values, const T* grads, T* m, T* v, ptrdiff_t n, const AdamOptions& o) {
  const T beta1 = T(o.beta1), beta2 = T(o.beta2), rest1 = T(1 - o.beta1), rest2 = T(1 - o.beta2), scale = T(o.scale),
          eps = T(o.eps);
  const T rate = T(o.lr / (1 - std::pow(o.beta1, double(o.step))));
  const T root = T(1 / std::sqrt(1 - std::pow(o.beta2, double(o.step))));
  const T coupled = T(o.decoupled ? 0 : o.weight_decay), shrink = T(o.decoupled ? 1 - o.lr * o.weight_decay : 1);
  for_blocks(n, [=](ptrdiff_t, ptrdiff_t begin, ptrdiff_t end) {
    for (ptrdiff_t i = begin; i < end; ++i) {
      const T g = grads[i] * scale + coupled * values[i];
      m[i] = beta1 * m[i] + rest1 * g;
      v[i] = beta2 * v[i] + rest2 * g * g;
      values[i] = shrink * values[i] - rate * m[i] / (std::sqrt(v[i]) * root + eps);
    }
  });
}

template <class T>
double squared_norm(const T* x, ptrdiff_t n) {
  std::vector<double> sums(size_t((n + kBlock - 1) / kBlock));
  for_blocks(n, [&](ptrdiff_t block, ptrdiff_t begin, ptrdiff_t end) {
    double partial[4] = {};
    for (ptrdiff_t i = begin; i < end; ++i) partial[i & 3] += double(x[i]) * double(x[i]);
    sums[size_t(block)] = (partial[0] + partial[1]) + (partial[2] + partial[3]);
  });
  double sum = 0;
  for (double s : sums) sum += s;
  return sum;
}

#define RECURRA_INSTANTIATE(T)                                                  \
  template void sgd_step(T*, const T*, T*, ptrdiff_t, const SgdOptions&);       \
  template void adam_step(T*, const T*, T*, T*, ptrdiff_t, const AdamOptions&); \
  template double squared_norm(const T*, ptrdiff_t)
RECURRA_INSTANTIATE(float);
RECURRA_INSTANTIATE(double);

}  // namespace recurra
