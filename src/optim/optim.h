// Optimisers on ranges of flat buffers. Elementwise, so bitwise the same on any number of threads.
#pragma once
#include <cstdint>

#include "device/device.h"

namespace recurra {

// Options of all optimisers. A step uses the gradient clamp(scale * g, -limit, limit) * factor: scale turns a sum into
// a mean, limit clips by value (infinity: no clipping), factor clips by norm.
struct StepOptions {
  double lr, weight_decay, scale, limit, factor;
};

struct SgdOptions {
  double momentum;
  bool nesterov;
};
// velocity = momentum velocity + g; w -= lr velocity (Sutskever et al. 2013 in PyTorch's form); velocity null: no
// momentum.
template <class T>
void sgd_step(const Device<T>&, T* values, const T* grads, T* velocity, ptrdiff_t n, const StepOptions&,
              const SgdOptions&);

struct AdamOptions {
  long step;  // 1 for the first
  double beta1, beta2, eps;
  bool bare_eps;
  bool decoupled;  // AdamW (Loshchilov & Hutter 2019); else the decay is part of the gradient (Kingma & Ba 2015)
};
// `bare_eps` is the form of SparseAdam: eps is added to the root of the uncorrected v.
template <class T>
void adam_step(const Device<T>&, T* values, const T* grads, T* m, T* v, ptrdiff_t n, const StepOptions&,
               const AdamOptions&);

struct RmspropOptions {
  double alpha, eps, momentum;
};
// square = alpha square + (1 - alpha) g^2; w -= lr g / (sqrt(square) + eps) (Tieleman & Hinton 2012). With `mean`, the
// running mean of g, its square is subtracted from `square` (Graves 2013); with `velocity`, the quotient goes through
// momentum as in sgd_step. Either may be null.
template <class T>
void rmsprop_step(const Device<T>&, T* values, const T* grads, T* square, T* mean, T* velocity, ptrdiff_t n,
                  const StepOptions&, const RmspropOptions&);

struct AdagradOptions {
  double eps;
};
// square += g^2; w -= lr g / (sqrt(square) + eps) (Duchi, Hazan & Singer 2011).
template <class T>
void adagrad_step(const Device<T>&, T* values, const T* grads, T* square, ptrdiff_t n, const StepOptions&,
                  const AdagradOptions&);

// The squared norm of clamp(scale * x, -limit, limit), as sum * 4^exponent, since a double might overflow or underflow.
struct Norm {
  double sum;
  int exponent;
  ptrdiff_t count;  // elements outside the limit
};
// Summed in double, over blocks of fixed size. With `rows` non-null, only over those `count` rows of size n.
template <class T>
Norm gradient_norm(const Device<T>&, const T* x, ptrdiff_t n, double scale, double limit, const int64_t* rows,
                   ptrdiff_t count);

}  // namespace recurra
