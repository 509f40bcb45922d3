// LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000), in PyTorch's order of gates:
//
//   i, f, o = sigmoid(W_i* x + b_i* + W_h* h + b_h*)     g = tanh(W_ig x + b_ig + W_hg h + b_hg)
//   c' = f c + i g                                       h' = o tanh(c')
#pragma once
#include "cells/unit.h"

namespace recurra::RECURRA_ISA {
namespace {

struct Lstm {
  static constexpr CellInfo kInfo = {"lstm", 4, 4, 4, true, 1, {0, 4}, {{0, 4}, {0, 0}}, {0, 1, 2, 3}, {0, 1, 2, 3}};
  static constexpr bool kUsesPrevious = false, kCarries = false;

  template <int stage, class V>
  RECURRA_INLINE static void forward(Unit<V>& u) {
    const V i = sigmoid(u.pre[0]), f = sigmoid(u.pre[1]), g = tanh(u.pre[2]), o = sigmoid(u.pre[3]);
    u.c = fma(f, u.c, i * g);
    u.h = o * tanh(u.c);
    u.saved[0] = i, u.saved[1] = f, u.saved[2] = g, u.saved[3] = o;
  }

  template <int stage, class V>
  RECURRA_INLINE static void backward(Gradient<V>& d) {
    const V i = d.saved[0], f = d.saved[1], g = d.saved[2], o = d.saved[3];
    const V t = tanh(d.c);
    const V dc = fma(d.dh * o, fma(-t, t, one<V>()), d.dc);
    d.pre[0] = dc * g * (i * (one<V>() - i));
    d.pre[1] = dc * d.c_previous * (f * (one<V>() - f));
    d.pre[2] = dc * i * fma(-g, g, one<V>());
    d.pre[3] = d.dh * t * (o * (one<V>() - o));
    d.dc = dc * f;
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
