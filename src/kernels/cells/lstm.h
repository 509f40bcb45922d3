// LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000), in PyTorch's order of gates:
//
//   i, f, o = sigmoid(W_i* x + b_i* + W_h* h + b_h*)     g = tanh(W_ig x + b_ig + W_hg h + b_hg)
//   c' = f c + i g                                       h' = o tanh(c')
//
// Options: i and f may peek at c and o at c' (peepholes: Gers, Schraudolph & Schmidhuber 2002); c' may be clipped; a
// call may choose other activations of the gates, of g, and of c' in h'.
#pragma once
#include "kernels/cells/unit.h"

namespace recurra::RECURRA_ISA {
namespace {

struct Lstm {
  static constexpr CellInfo kInfo = {
      .name = "lstm",
      .gates = 4,
      .groups = 4,
      .saved = 4,
      .has_cell = true,
      .stages = 1,
      .input = {0, 4},
      .recurrent = {{0, 4}},
      .input_gate = {0, 1, 2, 3},
      .recurrent_gate = {0, 1, 2, 3},
      .own = {CellFunction::kSigmoid, CellFunction::kTanh, CellFunction::kTanh},
  };
  static constexpr bool kUsesPrevious = false, kCarries = false;

  template <int stage, class U>
  RECURRA_INLINE static void forward(U& u) {
    typedef typename U::Value V;
    const V i = u.gate_activation(u.peek(u.pre[0], 0, u.c)), f = u.gate_activation(u.peek(u.pre[1], 1, u.c));
    const V g = u.candidate_activation(u.pre[2]), c = u.clip(fma(f, u.c, i * g));
    const V o = u.gate_activation(u.peek(u.pre[3], 2, c));
    u.h = u.output(o, c);
    u.c = u.zone_out(c);
    u.saved[0] = i, u.saved[1] = f, u.saved[2] = g, u.saved[3] = o;
  }

  template <int stage, class D>
  RECURRA_INLINE static void backward(D& d) {
    typedef typename D::Value V;
    const V i = d.saved[0], f = d.saved[1], g = d.saved[2], o = d.saved[3];
    V dc;
    const V of_o = d.output(o, d.candidate(i, f, g), dc);
    d.pre[3] = of_o * d.gate_derivative(o);
    dc = d.unclip(dc);
    d.pre[0] = dc * g * d.gate_derivative(i);
    d.pre[1] = dc * d.c_previous * d.gate_derivative(f);
    d.pre[2] = dc * i * d.candidate_derivative(g);
    d.dc = d.previous(dc * f);
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
