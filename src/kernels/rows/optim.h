// Optimisers' steps. No multiply-add is fused: every ISA gives the same bits. Calls come by value: what is stored
// cannot change them, so they stay in registers.
#pragma once
#include "kernels/rows/optim_call.h"
#include "kernels/simd/math.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class V>
RECURRA_INLINE V cut(V x, Lane<V> limit) {  // NaN stays NaN
  return min(broadcast<V>(limit), max(broadcast<V>(-limit), x));
}

// w = step(i, w, g) for all vectors of elements, `g` as the rule has it. `load` and `store` of other buffers, at i,
// take as many elements as are left.
template <class T, class Step>
RECURRA_INLINE void update(const UpdateCall<T>& call, const Step& step) {
  typedef Vec<T> V;
  for (ptrdiff_t i = 0; i < call.n; i += lanes<V>()) {
    const ptrdiff_t left = call.n - i;
    const V scaled = load<V>(call.grads + i, left) * broadcast<V>(call.rule.scale);
    const V g = cut(scaled, call.rule.limit) * broadcast<V>(call.rule.factor);
    store(call.values + i, step(i, left, load<V>(call.values + i, left), g), left);
  }
}

// buffer = keep * buffer + add, which it returns.
template <class V>
RECURRA_INLINE V decay_and_add(Lane<V>* buffer, ptrdiff_t left, Lane<V> keep, V add) {
  const V sum = broadcast<V>(keep) * load<V>(buffer, left) + add;
  store(buffer, sum, left);
  return sum;
}

template <class T>
void sgd_update(SgdCall<T> call) {
  typedef Vec<T> V;
  update(call, [&](ptrdiff_t i, ptrdiff_t left, V w, V g) {
    V step = g + broadcast<V>(call.decay) * w;
    if (call.velocity) {
      const V velocity = decay_and_add(call.velocity + i, left, call.momentum, step);
      step = call.nesterov ? step + broadcast<V>(call.momentum) * velocity : velocity;
    }
    return w - broadcast<V>(call.lr) * step;
  });
}

template <class T>
void adam_update(AdamCall<T> call) {
  typedef Vec<T> V;
  update(call, [&](ptrdiff_t i, ptrdiff_t left, V w, V gradient) {
    const V g = gradient + broadcast<V>(call.coupled) * w;
    const V m = decay_and_add(call.m + i, left, call.beta1, broadcast<V>(call.rest1) * g);
    const V v = decay_and_add(call.v + i, left, call.beta2, broadcast<V>(call.rest2) * g * g);
    return broadcast<V>(call.shrink) * w -
           broadcast<V>(call.rate) * m / (sqrt(v) * broadcast<V>(call.root) + broadcast<V>(call.eps));
  });
}

template <class T>
void rmsprop_update(RmspropCall<T> call) {
  typedef Vec<T> V;
  update(call, [&](ptrdiff_t i, ptrdiff_t left, V w, V gradient) {
    const V g = gradient + broadcast<V>(call.decay) * w;
    V variance = decay_and_add(call.square + i, left, call.alpha, broadcast<V>(call.rest) * g * g);
    if (call.mean) {
      const V old = load<V>(call.mean + i, left), mean = old + broadcast<V>(call.rest) * (g - old);
      store(call.mean + i, mean, left);
      variance = max(V{}, variance - mean * mean);  // rounding may leave less than nothing; NaN stays NaN
    }
    V step = g / (sqrt(variance) + broadcast<V>(call.eps));
    if (call.velocity) step = decay_and_add(call.velocity + i, left, call.momentum, step);
    return w - broadcast<V>(call.lr) * step;
  });
}

// In double, by as many sums as hide an addition's latency, which every ISA keeps alike.
template <bool limited, class T>
Clipped sum_squares_of(const T* x, ptrdiff_t n, T scale, T limit) {
  typedef Vec<T> V;
  typedef Vec<double> D;
  constexpr int kSums = 32, L = kLanes<T>, half = kLanes<double>;
  D sums[kSums / half] = {};
  IntVec<V> outside = {};
  const auto add = [](D& sum, D v) { sum = sum + v * v; };
  for (ptrdiff_t i = 0; i < n; i += kSums) {
    RECURRA_UNROLL
    for (int k = 0; k < kSums; k += L) {
      V v = load<V>(x + i + k, n - i - k) * broadcast<V>(scale);
      if constexpr (limited) {
        outside = outside - (IntVec<V>)((v > broadcast<V>(limit)) | (v < broadcast<V>(-limit)));
        v = cut(v, limit);
      }
      if constexpr (L == half) {
        add(sums[k / half], v);
      } else {
        add(sums[k / half], __builtin_convertvector(low_half(v), D));
        add(sums[k / half + 1], __builtin_convertvector(high_half(v), D));
      }
    }
  }
  double all[kSums];
  for (int k = 0; k < kSums; k += half) store(all + k, sums[k / half]);
  for (int k = kSums / 2; k > 0; k /= 2)
    for (int i = 0; i < k; ++i) all[i] += all[i + k];
  ptrdiff_t count = 0;
  for (int i = 0; i < L; ++i) count += ptrdiff_t(outside[i]);
  return {all[0], count};
}
template <class T>
Clipped sum_squares(const T* x, ptrdiff_t n, T scale, T limit) {
  return limit < T(__builtin_inf()) ? sum_squares_of<true>(x, n, scale, limit)
                                    : sum_squares_of<false>(x, n, scale, limit);
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
