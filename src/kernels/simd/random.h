// Rows of random masks, of the words of Philox4x32-10 (Salmon, Moraes, Dror & Shaw, SC 2011), many blocks at a
// time: a function of a key and a counter, so they do not depend on threads, order or padding. Unit k of a row takes
// word k / 16 % 4 of block k / 64 * 16 + k % 16, whatever the width of a vector, so masks are the same everywhere.
#pragma once
#include "kernels/simd/vec.h"

namespace recurra::RECURRA_ISA {
namespace {

typedef VecOf<uint32_t, kVectorBytes / 4>::type Words;
typedef VecOf<uint64_t, kVectorBytes / 8>::type WideWords;

constexpr ptrdiff_t kMaskBlocks = 16, kMaskUnits = 4 * kMaskBlocks;

// The high and the low halves of the products with m.
RECURRA_INLINE void multiply_words(Words v, uint64_t m, Words& high, Words& low) {
  const WideWords wide = bit_cast<WideWords>(v), low_half = WideWords{} + 0xFFFFFFFFu;
  const WideWords even = (wide & low_half) * m, odd = (wide >> 32) * m;
  high = bit_cast<Words>((even >> 32) | (odd & ~low_half));
  low = bit_cast<Words>((even & low_half) | (odd << 32));
}

// The words of units [64 group, 64 group + 64) of a row.
RECURRA_INLINE void mask_words(uint64_t key, uint64_t row, uint32_t group, uint32_t* words) {
  constexpr int L = int(kVectorBytes / 4);
  for (int b = 0; b < kMaskBlocks; b += L) {
    Words c0, c1 = {}, c2 = Words{} + uint32_t(row), c3 = Words{} + uint32_t(row >> 32);
    for (int i = 0; i < L; ++i) c0[i] = group * uint32_t(kMaskBlocks) + uint32_t(b + i);
    uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
    for (int round = 0; round < 10; ++round) {
      Words high0, low0, high1, low1;
      multiply_words(c0, 0xD2511F53, high0, low0);
      multiply_words(c2, 0xCD9E8D57, high1, low1);
      c0 = high1 ^ c1 ^ k0;
      c1 = low1;
      c2 = high0 ^ c3 ^ k1;
      c3 = low0;
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    const Words out[4] = {c0, c1, c2, c3};
    for (int w = 0; w < 4; ++w) __builtin_memcpy(words + w * kMaskBlocks + b, &out[w], sizeof(Words));
  }
}

// f(unit, its word) for units [0, n) of a row.
template <class F>
RECURRA_INLINE void for_mask(uint64_t key, uint64_t row, ptrdiff_t n, const F& f) {
  alignas(64) uint32_t words[kMaskUnits];
  for (ptrdiff_t begin = 0; begin < n; begin += kMaskUnits) {
    mask_words(key, row, uint32_t(begin / kMaskUnits), words);
    const ptrdiff_t count = n - begin < kMaskUnits ? n - begin : kMaskUnits;
    for (ptrdiff_t i = 0; i < count; ++i) f(begin + i, words[i]);
  }
}

// to = hit where the word is at most `last`, else miss.
template <class T>
void mask_row(uint64_t key, uint64_t row, uint32_t last, T hit, T miss, T* to, ptrdiff_t n) {
  for_mask(key, row, n, [&](ptrdiff_t k, uint32_t word) { to[k] = word <= last ? hit : miss; });
}

// y = 0 where the word is at most `last`, else x scale. x and y may be the same.
template <class T>
void dropout_row(uint64_t key, uint64_t row, uint32_t last, T scale, const T* x, T* y, ptrdiff_t n) {
  for_mask(key, row, n, [&](ptrdiff_t k, uint32_t word) { y[k] = word <= last ? T(0) : x[k] * scale; });
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
