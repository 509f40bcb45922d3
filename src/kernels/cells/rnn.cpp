#include "kernels/cells/rnn.h"

#include "kernels/cells/kernels.h"

namespace recurra::RECURRA_ISA {
namespace {

// With options, relu and sigmoid are activations that a call chooses in the tanh cell: its loops serve all three, and
// the two others would be a tenth of the library's code.
template <class Activation, class Call>
Call as_tanh_cell(const Call& call) {
  Call c = call;
  auto& candidate = c.options.activations.candidate;
  if (candidate.function == CellFunction::kNone) candidate.function = Activation::kFunction;
  return c;
}
template <class Activation, class T>
void rnn_forward(const ForwardCall<T>& call) {
  if (!call.options.any) return forward_of<Rnn<Activation>, T, false>(call);
  forward_of<Rnn<RnnTanh>, T, true>(as_tanh_cell<Activation>(call));
}
template <class Activation, class T>
void rnn_backward(const BackwardCall<T>& call) {
  if (!call.options.any) return backward_of<Rnn<Activation>, T, false>(call);
  backward_of<Rnn<RnnTanh>, T, true>(as_tanh_cell<Activation>(call));
}

template <class Activation, class T>
constexpr CellKernels<T> rnn_kernels() {
  CellKernels<T> kernels = kernels_of<Rnn<Activation>, T>();
  kernels.forward = rnn_forward<Activation, T>;
  kernels.backward = rnn_backward<Activation, T>;
  return kernels;
}

}  // namespace

RECURRA_CELL(rnn_tanh, Rnn<RnnTanh>);
extern const CellKernels<float> rnn_relu_f32, rnn_sigmoid_f32;
extern const CellKernels<double> rnn_relu_f64, rnn_sigmoid_f64;
constinit const CellKernels<float> rnn_relu_f32 = rnn_kernels<RnnRelu, float>();
constinit const CellKernels<double> rnn_relu_f64 = rnn_kernels<RnnRelu, double>();
constinit const CellKernels<float> rnn_sigmoid_f32 = rnn_kernels<RnnSigmoid, float>();
constinit const CellKernels<double> rnn_sigmoid_f64 = rnn_kernels<RnnSigmoid, double>();
}  // namespace recurra::RECURRA_ISA
