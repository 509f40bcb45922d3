// Optimisers' steps, as they cross the border between the code compiled once and the code compiled per ISA.
#pragma once
#include <stddef.h>

namespace recurra {

// The gradient that a step sees is clamp(scale * g, -limit, limit) * factor.
template <class T>
struct GradientRule {
  T scale, limit, factor;
};

// Elements [0, n) of flat buffers.
template <class T>
struct UpdateCall {
  T* values;
  const T* grads;
  ptrdiff_t n;
  GradientRule<T> rule;
};

// velocity = momentum velocity + (g + decay w); w -= lr velocity, or with `nesterov` lr (g + decay w + momentum
// velocity).
template <class T>
struct SgdCall : UpdateCall<T> {
  T lr, decay, momentum;
  T* velocity;  // null: without momentum
  bool nesterov;
};

// g' = g + coupled w; m = beta1 m + rest1 g'; v = beta2 v + rest2 g'^2; w = shrink w - rate m / (sqrt(v) root + eps).
template <class T>
struct AdamCall : UpdateCall<T> {
  T beta1, beta2, rest1, rest2, eps, rate, root, coupled, shrink;
  T *m, *v;
};

// g' = g + decay w; square = alpha square + rest g'^2; mean += rest (g' - mean); the step
// g' / (sqrt(square - mean^2) + eps) goes through momentum as above. Without `mean` it counts as 0.
template <class T>
struct RmspropCall : UpdateCall<T> {
  T lr, decay, momentum, eps, alpha, rest;
  T *square, *mean, *velocity;  // the last two may be null
};

struct Clipped {
  double squared_norm;  // of clamp(scale * x, -limit, limit)
  ptrdiff_t count;      // elements that lay outside
};

}  // namespace recurra
