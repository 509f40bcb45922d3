#include "layers/activation.h"

namespace recurra {
namespace {

// In the order of ActivationKind, then of FunctionKind.
constexpr const char* kActivationNames[kFunctions] = {
    "relu",         "leaky_relu", "elu",       "tanh",   "sigmoid", "gelu",     "silu",
    "softplus",     "softmax",    "sqrt",      "square", "exp",     "log",      "abs",
    "hard_sigmoid", "hard_swish", "hard_tanh", "relu6",  "selu",    "softsign", "mish"};

int activation_of(const std::string& name) {
  std::string known;
  for (int i = 0; i < kFunctions; ++i) {
    if (name == kActivationNames[i]) return i;
    known += (i ? ", " : "") + std::string(kActivationNames[i]);
  }
  fail("Activation", "got '" + name + "', expected one of: " + known);
}

}  // namespace

// The output, whose memory belongs to the program's tape.
template <class T>
struct Activation<T>::Tape : LayerTape<T> {
  Sequence<const T> y;
};

template <class T>
Activation<T>::Activation(const Devices& devices, const std::string& name)
    : Layer<T>(devices), kind_(activation_of(name)) {}

template <class T>
void Activation<T>::forward(const Run& run, const LayerForward<T>& call) {
  run.device<T>().activation(run, call.batch, call.features, kind_, call.x.features, call.y);
}

template <class T>
std::unique_ptr<LayerTape<T>> Activation<T>::take_tape(const LayerForward<T>& call, bool, Memory&) const {
  auto tape = std::make_unique<Tape>();
  tape->y = read_only(call.y);
  return tape;
}

template <class T>
void Activation<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Memory&) {
  if (!call.dx.data || !call.dy.data) return;
  run.device<T>().activation_gradient(run, call.batch, call.features, kind_, call.x.features,
                                      static_cast<Tape&>(tape).y, call.dy, call.dx);
}

template class Activation<float>;
template class Activation<double>;

}  // namespace recurra
