// Optimisers on stretches [begin, end) of flat buffers. `scale` multiplies the gradient first (a mean, a clipped norm).
// Elementwise in one order: the same bits on any number of threads.
#pragma once
#include <cstddef>

namespace recurra {

struct SgdOptions {
  double lr, momentum;
  bool nesterov;
  double weight_decay, scale;
};
// velocity = momentum velocity + g; w -= lr velocity (Sutskever et al. 2013 in PyTorch's form); velocity null: no
// momentum.
template <class T>
void sgd_step(T* values, const T* grads, T* velocity, ptrdiff_t n, const SgdOptions&);

struct AdamOptions {
  long step;  // 1 for the first
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;  // AdamW (Loshchilov & Hutter 2019); else the decay is part of the gradient (Kingma & Ba 2015)
  double scale;
};
template <class T>
void adam_step(T* values, const T* grads, T* m, T* v, ptrdiff_t n, const AdamOptions&);

// The sum of squares, in double, over blocks of fixed size.
template <class T>
double squared_norm(const T* x, ptrdiff_t n);

}  // namespace recurra
