// Additive attention (Bahdanau et al. 2015): tanh(q + k) for every query and key. As e^(2q) and e^(2k) need only be
// made once for each of them, what is left of the tanh is a product and a division, unless one of them is so large that
// its exponential may leave the range. Backwards tanh is made again: it costs less than memory for it would.
#pragma once
#include "simd/attention_call.h"
#include "simd/softmax.h"

namespace recurra::RECURRA_ISA {
namespace {

constexpr double kFactorLimit = 20;  // e^(4 * 20) is in the range of float

// factors = e^(2x) for n values, and e^0 up to whole vectors. False: some x is out of range.
template <class T>
RECURRA_INLINE bool make_factors(const T* x, ptrdiff_t n, T* factors) {
  typedef Vec<T> V;
  V most = V{};
  for (ptrdiff_t i = 0; i < n; i += lanes<V>()) {
    const V v = load<V>(x + i, n - i);
    most = max(v, max(-v, most));
    store(factors + i, exp(v + v));
  }
  bool in_range = true;
  for (int l = 0; l < lanes<V>(); ++l) in_range = in_range && most[l] <= T(kFactorLimit);
  return in_range;
}

template <class T>
bool additive_factors(const T* keys, ptrdiff_t key_row, ptrdiff_t size, ptrdiff_t count, T* factors,
                      ptrdiff_t factor_row) {
  bool in_range = true;
  for (ptrdiff_t j = 0; j < count; ++j)
    in_range = make_factors(keys + j * key_row, size, factors + j * factor_row) && in_range;
  return in_range;
}

// tanh of the sum of a query and key j, in lanes [i, i + lanes): from both, or from their factors.
template <class T>
struct TanhOfSum {
  typedef Vec<T> V;
  const AdditiveCall<T>& call;
  RECURRA_INLINE V query(ptrdiff_t i) const { return load<V>(call.query + i, call.size - i); }
  RECURRA_INLINE V operator()(V query, ptrdiff_t j, ptrdiff_t i) const {
    return tanh(query + load<V>(call.keys + j * call.key_row + i, call.size - i));
  }
};
template <class T>
struct TanhOfFactors {
  typedef Vec<T> V;
  const AdditiveCall<T>& call;
  RECURRA_INLINE V query(ptrdiff_t i) const { return load<V>(call.query_factors + i); }
  RECURRA_INLINE V operator()(V query, ptrdiff_t j, ptrdiff_t i) const {
    const V e = fma(query, load<V>(call.factors + j * call.factor_row + i), constant<V>(1));
    return constant<V>(1) - constant<V>(2) / e;
  }
};
template <class T, class F>
RECURRA_INLINE void with_tanh(const AdditiveCall<T>& call, const F& f) {
  if (call.factors && make_factors(call.query, call.size, call.query_factors))
    f(TanhOfFactors<T>{call});
  else
    f(TanhOfSum<T>{call});
}

template <class T>
void additive_scores(const AdditiveCall<T>& call) {
  typedef Vec<T> V;
  with_tanh(call, [&](const auto& tanh_of) {
    for (ptrdiff_t j = 0; j < call.count; ++j) {
      V sums = V{};
      for (ptrdiff_t i = 0; i < call.size; i += lanes<V>())
        sums = fma(load<V>(call.v + i, call.size - i), tanh_of(tanh_of.query(i), j, i), sums);
      call.scores[j] = sum_lanes(sums);
    }
  });
}

template <class T>
void additive_backward(const AdditiveCall<T>& call) {
  typedef Vec<T> V;
  with_tanh(call, [&](const auto& tanh_of) {
    for (ptrdiff_t i = 0; i < call.size; i += lanes<V>()) {
      const ptrdiff_t left = call.size - i;
      const V query = tanh_of.query(i), v = load<V>(call.v + i, left);
      V dquery = V{}, dv = V{};
      for (ptrdiff_t j = 0; j < call.count; ++j) {
        const V t = tanh_of(query, j, i), ds = broadcast<V>(call.dscores[j]);
        const V d = ds * v * fma(-t, t, constant<V>(1));
        T* dkey = call.dkeys + j * call.factor_row + i;
        dquery = dquery + d;
        dv = fma(ds, t, dv);
        store(dkey, load<V>(dkey) + d);
      }
      store(call.dquery + i, dquery, left);
      store(call.dv + i, load<V>(call.dv + i) + dv);
    }
  });
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
