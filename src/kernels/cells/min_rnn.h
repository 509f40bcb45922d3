// minGRU and minLSTM (Feng, Tung, Ahmed, Bengio, Hajimirsadeghi 2024, "Were RNNs All We Needed?"): gates that do not
// see the state, so that h' = a h + b. Gates in the order of the equations:
//
//   minGRU:   z = sigmoid(W_z x + b_z)                                       h' = (1 - z) h + z n
//   minLSTM:  f = sigmoid(W_f x + b_f), i = sigmoid(W_i x + b_i)             h' = f / (f + i) h + i / (f + i) n
//   both:     n = W_n x + b_n, or g(W_n x + b_n) where h is to stay positive
//
//   g(v) = v + 1/2 for v >= 0, else sigmoid(v): the paper's appendix, which needs log h
#pragma once
#include "kernels/cells/cell_info.h"
#include "kernels/cells/scan_cell.h"

namespace recurra::RECURRA_ISA {
namespace {

template <bool positive, class V>
RECURRA_INLINE V candidate(V v) {
  if constexpr (positive)
    return v >= V{} ? v + constant<V>(0.5) : sigmoid(v);
  else
    return v;
}
// The gradient before the candidate n from the one after it.
template <bool positive, class V>
RECURRA_INLINE V candidate_gradient(V n, V dn) {
  if constexpr (positive)
    return n >= constant<V>(0.5) ? dn : dn * (n * (one<V>() - n));
  else
    return dn;
}

template <bool positive>
struct MinGru {
  static constexpr CellInfo kInfo = {
      .name = positive ? "min_gru_positive" : "min_gru",
      .gates = 2,
      .groups = 2,
      .saved = 2,
      .has_cell = false,
      .stages = 0,
      .input = {0, 2},
      .recurrent = {},
      .input_gate = {0, 1, -1, -1},
      .recurrent_gate = {-1, -1, -1, -1},
      .scanned = true,
  };

  template <class V>
  RECURRA_INLINE static void forward(ScanUnit<V>& u) {
    const V z = sigmoid(u.pre[0]), n = candidate<positive>(u.pre[1]);
    u.h = fma(one<V>() - z, u.h, z * n);
    u.saved[0] = z, u.saved[1] = n;
  }

  template <class V>
  RECURRA_INLINE static void backward(ScanGradient<V>& d) {
    const V z = d.saved[0], n = d.saved[1];
    const V kept = one<V>() - z;
    d.pre[0] = d.dh * (n - d.h_previous) * (z * kept);
    d.pre[1] = candidate_gradient<positive>(n, d.dh * z);
    d.carry = d.dh * kept;
  }
};

// With f = 1 / (1 + e^-F) and i = 1 / (1 + e^-I), f / (f + i) = (1 + e^-I) / (2 + e^-F + e^-I). Numerator and
// denominator are taken times e^m, m = min(F, I, 0): no exponent is positive, one is 0, and the ratio is right for
// gates however far closed.
template <bool positive>
struct MinLstm {
  static constexpr CellInfo kInfo = {
      .name = positive ? "min_lstm_positive" : "min_lstm",
      .gates = 3,
      .groups = 3,
      .saved = 4,
      .has_cell = false,
      .stages = 0,
      .input = {0, 3},
      .recurrent = {},
      .input_gate = {0, 1, 2, -1},
      .recurrent_gate = {-1, -1, -1, -1},
      .scanned = true,
  };

  template <class V>
  RECURRA_INLINE static void forward(ScanUnit<V>& u) {
    const V F = u.pre[0], I = u.pre[1], n = candidate<positive>(u.pre[2]);
    const V m = min(min(F, I), V{});
    const V one_m = exp(m), closed_f = exp(m - F), closed_i = exp(m - I);
    const V scale = one<V>() / ((one_m + closed_f) + (one_m + closed_i));
    const V f = (one_m + closed_i) * scale, i = (one_m + closed_f) * scale;
    u.h = fma(f, u.h, i * n);
    u.saved[0] = f * (closed_f * scale);  // d(f / (f + i)) / dF
    u.saved[1] = i * (closed_i * scale);  // -d(f / (f + i)) / dI
    u.saved[2] = i, u.saved[3] = n;
  }

  template <class V>
  RECURRA_INLINE static void backward(ScanGradient<V>& d) {
    const V i = d.saved[2], n = d.saved[3];
    const V da = d.dh * (d.h_previous - n);
    d.carry = d.dh * (one<V>() - i);
    d.pre[0] = da * d.saved[0];
    d.pre[1] = -(da * d.saved[1]);
    d.pre[2] = candidate_gradient<positive>(n, d.dh * i);
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
