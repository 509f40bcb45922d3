// Additive attention (Bahdanau et al. 2015). Backwards tanh is made again: it costs less than memory for it would.
#pragma once
#include "simd/attention_call.h"
#include "simd/softmax.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class T>
void additive_scores(const AdditiveCall<T>& call) {
  typedef Vec<T> V;
  for (ptrdiff_t j = 0; j < call.count; ++j) {
    const T* key = call.keys + j * call.key_row;
    V sums = V{};
    for (ptrdiff_t i = 0; i < call.size; i += lanes<V>()) {
      const ptrdiff_t left = call.size - i;
      sums = fma(load<V>(call.v + i, left), tanh(load<V>(call.query + i, left) + load<V>(key + i)), sums);
    }
    call.scores[j] = sum_of(sums);
  }
}

template <class T>
void additive_backward(const AdditiveCall<T>& call) {
  typedef Vec<T> V;
  for (ptrdiff_t i = 0; i < call.size; i += lanes<V>()) {
    const ptrdiff_t left = call.size - i;
    const V query = load<V>(call.query + i, left), v = load<V>(call.v + i, left);
    V dquery = V{}, dv = V{};
    for (ptrdiff_t j = 0; j < call.count; ++j) {
      const V t = tanh(query + load<V>(call.keys + j * call.key_row + i)), ds = broadcast<V>(call.dscores[j]);
      const V d = ds * v * fma(-t, t, constant<V>(1));
      T* dkey = call.dkeys + j * call.key_row + i;
      dquery = dquery + d;
      dv = fma(ds, t, dv);
      store(dkey, load<V>(dkey) + d);
    }
    store(call.dquery + i, dquery, left);
    store(call.dv + i, load<V>(call.dv + i) + dv);
  }
}

// For y = tanh(x): dx = dy (1 - y^2). dy and dx may be the same.
template <class T>
void tanh_backward_row(const T* y, const T* dy, T* dx, ptrdiff_t n) {
  typedef Vec<T> V;
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V t = load<V>(y + i, n - i);
    store(dx + i, load<V>(dy + i, n - i) * fma(-t, t, constant<V>(1)), n - i);
  }
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
