// Additive attention (Bahdanau et al. 2015): tanh(q + k) for every query and key. With s = 1 / (1 + e^(2q) e^(2k)) it
// is 1 - 2 s, and its derivative 4 (s - s^2). The exponentials need only be made once for each query and key, unless
// some are so large that a product may leave the range. What is left is a division, which takes longer than all the
// rest: so one serves two. Backwards s is made again: it costs less than memory for it would.
#pragma once
#include "kernels/rows/attention_call.h"
#include "kernels/rows/softmax.h"

namespace recurra::RECURRA_ISA {
namespace {

constexpr double kFactorLimit = 20;  // of |q| + |k|: (1 + e^(2 * 20))^2 is in the range of float

// factors = e^(2x) for n values, and e^0 up to whole pairs of vectors. Returns the largest |x|.
template <class T>
RECURRA_INLINE T make_factors(const T* x, ptrdiff_t n, T* factors) {
  typedef Vec<T> V;
  constexpr ptrdiff_t L = lanes<V>();
  V most = V{};
  for (ptrdiff_t i = 0; i < n; i += 2 * L)
    for (ptrdiff_t k = i; k < i + 2 * L; k += L) {
      const V v = load<V>(x + k, n - k);
      most = max(v, max(-v, most));
      store(factors + k, exp(v + v));
    }
  return reduce_lanes(most, [](auto a, auto b) { return a > b ? a : b; });
}

template <class T>
T additive_factors(const T* keys, ptrdiff_t key_row, ptrdiff_t size, ptrdiff_t count, T* factors,
                   ptrdiff_t factor_row) {
  T most = 0;
  for (ptrdiff_t j = 0; j < count; ++j) {
    const T one = make_factors(keys + j * key_row, size, factors + j * factor_row);
    most = one > most ? one : most;
  }
  return most;
}

// s of two pairs of a query and a key, each as query() and key() give them: lanes [i, i + lanes) of query t and key j.
template <class T>
struct OfSums {
  typedef Vec<T> V;
  const AdditiveCall<T>& call;
  RECURRA_INLINE V query(ptrdiff_t t, ptrdiff_t i) const {
    return load<V>(call.query + t * call.query_row + i, call.size - i);
  }
  RECURRA_INLINE V key(ptrdiff_t j, ptrdiff_t i) const {
    return load<V>(call.keys + j * call.key_row + i, call.size - i);
  }
  RECURRA_INLINE void operator()(V q0, V k0, V q1, V k1, V (&s)[2]) const {
    s[0] = sigmoid(constant<V>(-2) * (q0 + k0));
    s[1] = sigmoid(constant<V>(-2) * (q1 + k1));
  }
};
template <class T>
struct OfFactors {
  typedef Vec<T> V;
  const AdditiveCall<T>& call;
  RECURRA_INLINE V query(ptrdiff_t t, ptrdiff_t i) const {
    return load<V>(call.query_factors + t * call.factor_row + i);
  }
  RECURRA_INLINE V key(ptrdiff_t j, ptrdiff_t i) const { return load<V>(call.factors + j * call.factor_row + i); }
  RECURRA_INLINE void operator()(V q0, V k0, V q1, V k1, V (&s)[2]) const {
    const V a = fma(q0, k0, constant<V>(1)), b = fma(q1, k1, constant<V>(1)), both = constant<V>(1) / (a * b);
    s[0] = b * both;
    s[1] = a * both;
  }
};
template <class T, class F>
RECURRA_INLINE void with_shares(const AdditiveCall<T>& call, const F& f) {
  T most = 0;
  for (ptrdiff_t t = 0; t < call.queries; ++t) {
    const T one = make_factors(call.query + t * call.query_row, call.size, call.query_factors + t * call.factor_row);
    most = one > most ? one : most;
  }
  if (most + call.most_key <= T(kFactorLimit))
    f(OfFactors<T>{call});
  else
    f(OfSums<T>{call});
}

// To the second-level cache, where the memories of a batch do not fit together.
template <class T>
RECURRA_INLINE void ask(const AdditiveCall<T>& call, ptrdiff_t j, ptrdiff_t i) {
  for (const T* next : call.ask) __builtin_prefetch(next + j * call.factor_row + i, 0, 2);
}

template <class T>
void additive_scores(const AdditiveCall<T>& call) {
  typedef Vec<T> V;
  constexpr ptrdiff_t L = lanes<V>();
  with_shares(call, [&](const auto& shares) {
    for (ptrdiff_t j = 0; j < call.count; ++j) {
      V sums[2] = {};
      for (ptrdiff_t i = 0; i < call.size; i += 2 * L) {
        V s[2];
        shares(shares.query(0, i), shares.key(j, i), shares.query(0, i + L), shares.key(j, i + L), s);
        RECURRA_UNROLL
        for (int p = 0; p < 2; ++p) {
          ask(call, j, i + p * L);
          sums[p] = fma(load<V>(call.v + i + p * L), fma(constant<V>(-2), s[p], constant<V>(1)), sums[p]);
        }
      }
      call.scores[j] = sum_lanes(sums[0] + sums[1]);
    }
  });
}

// dquery in `pairs` pairs of vectors from i on: side by side, so that a key's row is read in longer pieces.
template <int pairs, class T, class Shares>
RECURRA_INLINE void query_gradient(const AdditiveCall<T>& call, const Shares& shares, ptrdiff_t i) {
  typedef Vec<T> V;
  constexpr ptrdiff_t L = lanes<V>();
  V sums[2 * pairs] = {};
  for (ptrdiff_t j = 0; j < call.count; ++j) {
    const V ds = broadcast<V>(call.dscores[j]);
    RECURRA_UNROLL
    for (int p = 0; p < 2 * pairs; p += 2) {
      V s[2];
      ask(call, j, i + p * L);
      ask(call, j, i + (p + 1) * L);
      shares(shares.query(0, i + p * L), shares.key(j, i + p * L), shares.query(0, i + (p + 1) * L),
             shares.key(j, i + (p + 1) * L), s);
      sums[p] = fma(ds, fma(-s[0], s[0], s[0]), sums[p]);
      sums[p + 1] = fma(ds, fma(-s[1], s[1], s[1]), sums[p + 1]);
    }
  }
  for (int p = 0; p < 2 * pairs; ++p, i += L)
    store(call.dquery + i, constant<V>(4) * load<V>(call.v + i) * sums[p], call.size - i);
}

template <class T>
void additive_query_gradient(const AdditiveCall<T>& call) {
  constexpr int kPairs = 4;
  constexpr ptrdiff_t pair = 2 * kLanes<T>;
  with_shares(call, [&](const auto& shares) {
    ptrdiff_t i = 0;
    for (; i + kPairs * pair <= call.size; i += kPairs * pair) query_gradient<kPairs>(call, shares, i);
    for (; i < call.size; i += pair) query_gradient<1>(call, shares, i);
  });
}

template <class T>
void additive_key_gradient(const AdditiveCall<T>& call) {
  typedef Vec<T> V;
  T all = 0;
  for (ptrdiff_t t = 0; t < call.queries; ++t)
    for (ptrdiff_t j = 0; j < call.count; ++j) all += call.dscores[t * call.dscores_row + j];
  with_shares(call, [&](const auto& shares) {
    for (ptrdiff_t i = 0; i < call.size; i += lanes<V>()) {
      const ptrdiff_t left = call.size - i;
      const V slope = constant<V>(4) * load<V>(call.v + i);
      V of_v = V{};  // the sum of ds s
      for (ptrdiff_t j = 0; j < call.count; j += 2) {
        const bool both = j + 1 < call.count;  // else the last key is taken twice, once for nothing
        const V keys[2] = {shares.key(j, i), shares.key(j + both, i)};
        const T *ds = call.dscores + j, *ds_next = ds + both;
        V sums[2] = {}, of_v_of[2] = {};
        for (ptrdiff_t t = 0; t < call.queries; ++t, ds += call.dscores_row, ds_next += call.dscores_row) {
          const V q = shares.query(t, i), d[2] = {broadcast<V>(*ds), broadcast<V>(*ds_next)};
          V s[2];
          shares(q, keys[0], q, keys[1], s);
          RECURRA_UNROLL
          for (int p = 0; p < 2; ++p) {
            sums[p] = fma(d[p], fma(-s[p], s[p], s[p]), sums[p]);
            of_v_of[p] = fma(d[p], s[p], of_v_of[p]);
          }
        }
        for (int p = 0; p <= both; ++p) {
          T* dkey = call.dkeys + (j + p) * call.dkey_row + i;
          store(dkey, fma(slope, sums[p], load<V>(dkey, left)), left);
          of_v = of_v + of_v_of[p];
        }
      }
      store(call.dv + i, load<V>(call.dv + i) + fma(constant<V>(-2), of_v, broadcast<V>(all)));
    }
  });
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
