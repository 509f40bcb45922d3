// The plain recurrent network (Elman 1990): h' = a(W_ih x + b_ih + W_hh h + b_hh) with a = tanh, relu or sigmoid.
#pragma once
#include "kernels/cells/unit.h"

namespace recurra::RECURRA_ISA {
namespace {

// The cell's name, and its activation.
struct RnnTanh : Tanh {
  static constexpr CellFunction kFunction = CellFunction::kTanh;
  static constexpr const char* kName = "rnn_tanh";
};
struct RnnRelu : Relu {
  static constexpr CellFunction kFunction = CellFunction::kRelu;
  static constexpr const char* kName = "rnn_relu";
};
struct RnnSigmoid : Sigmoid {
  static constexpr CellFunction kFunction = CellFunction::kSigmoid;
  static constexpr const char* kName = "rnn_sigmoid";
};

template <class Activation>
struct Rnn {
  static constexpr CellInfo kInfo = {
      .name = Activation::kName,
      .gates = 1,
      .groups = 1,
      .saved = 1,
      .has_cell = false,
      .stages = 1,
      .input = {0, 1},
      .recurrent = {{0, 1}},
      .input_gate = {0, -1, -1, -1},
      .recurrent_gate = {0, -1, -1, -1},
      .own = {CellFunction::kNone, Activation::kFunction, CellFunction::kNone},
  };
  static constexpr bool kUsesPrevious = false, kCarries = false;

  template <int stage, class U>
  RECURRA_INLINE static void forward(U& u) {
    u.h = u.saved[0] = u.template candidate_activation<Activation>(u.pre[0]);
  }

  template <int stage, class D>
  RECURRA_INLINE static void backward(D& d) {
    d.pre[0] = d.dh * d.template candidate_derivative<Activation>(d.saved[0]);
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
