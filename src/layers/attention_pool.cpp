#include "layers/attention_pool.h"

namespace recurra {
namespace {

std::vector<ParameterSpec> parameter_specs(ptrdiff_t features, ptrdiff_t hidden) {
  constexpr ptrdiff_t kMost = 1 << 20;
  check(features >= 1 && features <= kMost, "AttentionPool", "features is ", features, ", expected 1 to ", kMost);
  check(hidden >= 1 && hidden <= kMost, "AttentionPool", "hidden_size is ", hidden, ", expected 1 to ", kMost);
  return {{"weight", {hidden, features}}, {"bias", {hidden}}, {"context", {hidden}}};
}

}  // namespace

// W, packed both plain and transposed, and v, of one version.
template <class T>
struct AttentionPool<T>::Packed {
  Arena memory;
  PackedMatrix<T> forward, transposed;
  const T* v;
};

template <class T>
struct AttentionPool<T>::Tape : FlatTape<T> {
  Sequence<T> u, weights;
};

template <class T>
AttentionPool<T>::AttentionPool(const Devices& devices, ptrdiff_t features, ptrdiff_t hidden)
    : Layer<T>(devices, parameter_specs(features, hidden)), features_(features), hidden_(hidden) {}

template <class T>
auto AttentionPool<T>::weights() -> Weights {
  return this->cached(weights_, [&](Arena memory) {
    const T *weight = this->parameters()->values(), *bias = weight + hidden_ * features_, *v = bias + hidden_;
    auto made = std::make_unique<Packed>();
    made->memory = std::move(memory);
    made->forward = PackedMatrix<T>::of(this->device(), weight, hidden_, features_, bias, false, made->memory);
    made->transposed = PackedMatrix<T>::of(this->device(), weight, hidden_, features_, nullptr, true, made->memory);
    T* own_v = made->memory.template take<T>(size_t(hidden_));
    copy_flat(this->device(), v, hidden_, own_v);
    made->v = own_v;
    return made;
  });
}

template <class T>
void AttentionPool<T>::attend(const Run& run, const LayerForward<T>& call, const Attend<T>& attend, Sequence<T> u,
                              const Packed& packed) const {
  packed.forward.multiply(run, call.batch, call.x.features, u);
  run.device<T>().activation(run, call.batch, hidden_, kTanh, read_only(u), u);
  run.device<T>().attend(run, call.batch, attend, call.y);
}

template <class T>
void AttentionPool<T>::attend(const Run& run, const LayerForward<T>& call, Sequence<T> weights) {
  const Weights packed = this->weights();
  const Sequence<T> u = take_sequence<T>(run.arena, call.batch, hidden_);
  attend(run, call, {features_, hidden_, packed.value->v, call.x.features, read_only(u), weights}, u, *packed.value);
}

template <class T>
void AttentionPool<T>::forward(const Run& run, const LayerForward<T>& call) {
  attend(run, call, take_sequence<T>(run.arena, call.batch, 1));
}

template <class T>
std::unique_ptr<LayerTape<T>> AttentionPool<T>::take_tape(const LayerForward<T>& call, bool, Memory& memory) const {
  auto tape = std::make_unique<Tape>();
  tape->u = take_sequence<T>(memory.device, call.batch, hidden_);
  tape->weights = take_sequence<T>(memory.device, call.batch, 1);
  return tape;
}

template <class T>
void AttentionPool<T>::record(const Run& run, const LayerForward<T>& call, LayerTape<T>& any_tape) {
  auto& tape = static_cast<Tape&>(any_tape);
  const Weights packed = weights();
  attend(run, call, {features_, hidden_, packed.value->v, call.x.features, read_only(tape.u), tape.weights}, tape.u,
         *packed.value);
}

// With scores e = v . u, u = tanh(W h + b) and weights a: da = dy . h, de = a (da - sum of a da), du = de v (1 - u^2).
template <class T>
void AttentionPool<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& any_tape, Memory& memory) {
  auto& tape = static_cast<Tape&>(any_tape);
  T* gradient = start_gradient(tape, *this->parameters(), memory);
  if (!call.dy.data) return;
  const Weights weights = this->weights();
  const Packed& packed = *weights.value;
  const Sequence<T> du = take_sequence<T>(run.arena, call.batch, hidden_);
  T* dbias = gradient + hidden_ * features_;
  const Attend<T> attend = {features_, hidden_, packed.v, call.x.features, read_only(tape.u), tape.weights};
  run.device<T>().attend_gradient(run, call.batch, attend, call.dy, du, dbias + hidden_);
  run.device<T>().activation_gradient(run, call.batch, hidden_, kTanh, read_only(tape.u), read_only(tape.u),
                                      read_only(du), du);
  run.device<T>().outer(run, call.batch, features_, hidden_, call.x.features, read_only(du), gradient, dbias);
  if (!call.dx.data) return;
  packed.transposed.multiply(run, call.batch, read_only(du), call.dx);
  run.device<T>().attend_input_gradient(run, call.batch, attend, call.dy, call.dx);
}

template <class T>
void AttentionPool<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int) {
  to.add(static_cast<Tape&>(tape).gradient);
}

template class AttentionPool<float>;
template class AttentionPool<double>;

}  // namespace recurra
