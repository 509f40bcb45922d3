// GRU (Cho et al. 2014), weights in PyTorch's order of gates r, z, n; h' = (1 - z) n + z h, and
//
//   r, z = sigmoid(W_i* x + b_i* + W_h* h + b_h*)
//   n = tanh(W_in x + b_in + r (W_hn h + b_hn))     reset after the product: PyTorch, cuDNN, Keras' reset_after=True
//   n = tanh(W_in x + b_in + W_hn (r h) + b_hn)     reset before it: the paper's (version 1), a second product per step
#pragma once
#include "kernels/cells/unit.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class V>
RECURRA_INLINE V mix(V z, V h, V n) {  // (1 - z) n + z h
  return fma(z, h - n, n);
}

// Columns: n's input part, r, z, n's recurrent part; so that what the input feeds and what h feeds are both in one
// piece.
struct Gru {
  static constexpr CellInfo kInfo = {
      .name = "gru",
      .gates = 3,
      .groups = 4,
      .saved = 4,
      .has_cell = false,
      .stages = 1,
      .input = {0, 3},
      .recurrent = {{1, 3}},
      .input_gate = {2, 0, 1, -1},
      .recurrent_gate = {-1, 0, 1, 2},
      .own = {CellFunction::kSigmoid, CellFunction::kTanh, CellFunction::kNone},
  };
  static constexpr bool kUsesPrevious = true, kCarries = true;

  template <int stage, class U>
  RECURRA_INLINE static void forward(U& u) {
    typedef typename U::Value V;
    const V r = u.gate_activation(u.pre[1]), z = u.gate_activation(u.pre[2]), s = u.pre[3];
    const V n = u.candidate_activation(fma(r, s, u.pre[0]));
    u.h = mix(z, u.h, n);
    u.saved[0] = r, u.saved[1] = z, u.saved[2] = n, u.saved[3] = s;
  }

  template <int stage, class D>
  RECURRA_INLINE static void backward(D& d) {
    typedef typename D::Value V;
    const V r = d.saved[0], z = d.saved[1], n = d.saved[2], s = d.saved[3];
    d.pre[0] = d.dh * (one<V>() - z) * d.candidate_derivative(n);
    d.pre[1] = d.pre[0] * s * d.gate_derivative(r);
    d.pre[2] = d.dh * (d.h_previous - n) * d.gate_derivative(z);
    d.pre[3] = d.pre[0] * r;
    d.carry = d.dh * z;
  }
};

// Columns: n, r, z. Stage 0 makes r, z and the operand r h; stage 1 adds its product to n.
struct GruResetBefore {
  static constexpr CellInfo kInfo = {
      .name = "gru_reset_before",
      .gates = 3,
      .groups = 3,
      .saved = 3,
      .has_cell = false,
      .stages = 2,
      .input = {0, 3},
      .recurrent = {{1, 2}, {0, 1}},
      .input_gate = {2, 0, 1, -1},
      .recurrent_gate = {2, 0, 1, -1},
      .own = {CellFunction::kSigmoid, CellFunction::kTanh, CellFunction::kNone},
  };
  static constexpr bool kUsesPrevious = true, kCarries = true;
  static constexpr int kPending = 2;  // where n's pre-activation waits in `saved` between the stages

  template <int stage, class U>
  RECURRA_INLINE static void forward(U& u) {
    typedef typename U::Value V;
    if constexpr (stage == 0) {
      const V r = u.gate_activation(u.pre[1]);
      u.operand = r * u.h;
      u.saved[0] = r, u.saved[1] = u.gate_activation(u.pre[2]), u.saved[kPending] = u.pre[0];
    } else {
      const V n = u.candidate_activation(u.pre[0]);
      u.h = mix(u.saved[1], u.h, n);
      u.saved[2] = n;
    }
  }

  template <int stage, class D>
  RECURRA_INLINE static void backward(D& d) {
    typedef typename D::Value V;
    const V r = d.saved[0];
    if constexpr (stage == 1) {
      const V z = d.saved[1], n = d.saved[2];
      d.pre[0] = d.dh * (one<V>() - z) * d.candidate_derivative(n);
      d.pre[2] = d.dh * (d.h_previous - n) * d.gate_derivative(z);
      d.carry = d.dh * z;
    } else {
      d.pre[1] = d.dh * d.h_previous * d.gate_derivative(r);
      d.carry = fma(d.dh, r, d.carry);
      d.operand = r * d.h_previous;
    }
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
