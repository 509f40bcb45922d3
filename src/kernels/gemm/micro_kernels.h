// The micro-kernels over a storage format W of B, and the table of all their sizes: what a format's source is made of.
// W has kBytes, the size of an element, load<V>(address): a vector of them, converted to the lanes of V, and kLargest,
// the largest magnitude that a column is scaled to; 0: it has no scales.
#pragma once
#include "kernels/gemm/tile.h"

namespace recurra::RECURRA_ISA {
namespace {

// Weights stored as they are computed with.
template <class T>
struct Own {
  static constexpr ptrdiff_t kBytes = sizeof(T);
  static constexpr int kLargest = 0;
  template <class V>
  static RECURRA_INLINE V load(const char* from) {
    V v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
  }
};

// Bytes of B by which fetching runs ahead of a product. A tile of 16 registers is done with a cache line in three to
// six cycles, in which a processor's own prefetching brings none from beyond the L2 cache. A larger tile leaves it the
// time, and a smaller one waits for the bandwidth.
constexpr ptrdiff_t kFetchBytes = 16 << 10;
constexpr bool fetches(int rows) { return kRegisters == 16 && rows >= 4; }

// acc += A B over k steps of one segment. `fetch`: the distance from B to what is brought to the L2 cache meanwhile.
template <class W, int R, int N, bool ColumnMajor, int P, bool fetching = false, class T, class V>
RECURRA_INLINE void accumulate(V (&acc)[R][P * N], const T* a, ptrdiff_t row, const char* b, ptrdiff_t b_row,
                               ptrdiff_t b_strip, ptrdiff_t k, [[maybe_unused]] ptrdiff_t fetch = 0) {
  constexpr int L = kLanes<T>;
  for (; k > 0; --k) {
    if constexpr (fetching)
      for (ptrdiff_t line = 0; line < N * L * W::kBytes; line += 64) __builtin_prefetch(b + fetch + line, 0, 2);
    V bs[P * N];
    RECURRA_UNROLL
    for (int n = 0; n < P * N; ++n) bs[n] = W::template load<V>(b + n / N * b_strip + n % N * L * W::kBytes);
    RECURRA_UNROLL
    for (int m = 0; m < R; ++m) {
      const auto x = factor<V>(ColumnMajor ? a[m] : a[m * row]);
      RECURRA_UNROLL
      for (int n = 0; n < P * N; ++n) acc[m][n] = fma(x, bs[n], acc[m][n]);
    }
    a += ColumnMajor ? row : 1;
    b += b_row;
  }
}

// One tile of R rows from row `first` of A and P strips of N vectors, from strip `strip` on.
template <class T, class W, int R, int N, int P = 1>
requires(W::kLargest == 0) void multiply_tile(const Tile<T>& t, ptrdiff_t first, ptrdiff_t strip) {
  typedef Vec<T> V;
  constexpr int L = kLanes<T>;
  const T* const init = t.init ? t.init + strip * t.init_strip : nullptr;
  T* const out = t.out + strip * t.out_strip;
  V acc[R][P * N];
  RECURRA_UNROLL
  for (int m = 0; m < R; ++m) {
    RECURRA_UNROLL
    for (int n = 0; n < P * N; ++n)
      acc[m][n] = init ? load<V>(init + m * t.init_row + n / N * t.init_strip + n % N * L) : V{};
  }
  for (ptrdiff_t s = 0; s < t.segment_count; ++s) {
    const Segment<T>& segment = t.segments[s];
    const T* a = segment.a + first * segment.row;
    const char* b = static_cast<const char*>(segment.b) + strip * t.b_strip;
    ptrdiff_t k = segment.k;
    if constexpr (fetches(R))
      if (t.next) {
        constexpr ptrdiff_t rows = kFetchBytes / (N * L * W::kBytes);
        const ptrdiff_t last = s + 1 < t.segment_count ? 0 : k < rows ? k : rows;  // fetch the first rows of the next B
        const char* const next = strip == 0 && t.b_strip ? static_cast<const char*>(t.segments->b) + t.b_strip
                                                         : static_cast<const char*>(t.next);
        accumulate<W, R, N, false, P, true>(acc, a, segment.row, b, t.b_row, t.b_strip, k - last, rows * t.b_row);
        a += k - last, b += (k - last) * t.b_row, k = 0;
        accumulate<W, R, N, false, P, true>(acc, a, segment.row, b, t.b_row, t.b_strip, last, next - b);
      }
    accumulate<W, R, N, false, P>(acc, a, segment.row, b, t.b_row, t.b_strip, k);
  }
  RECURRA_UNROLL
  for (int m = 0; m < R; ++m) {
    RECURRA_UNROLL
    for (int n = 0; n < P * N; ++n) store(out + m * t.out_row + n / N * t.out_strip + n % N * L, acc[m][n]);
  }
}

// The same with scales: what came before a segment waits in memory, so that its sum has the registers.
template <class T, class W, int R, int N, int P = 1>
requires(W::kLargest > 0) void multiply_tile(const Tile<T>& t, ptrdiff_t first, ptrdiff_t strip) {
  typedef Vec<T> V;
  constexpr int L = kLanes<T>;
  T* const out = t.out + strip * t.out_strip;
  for (ptrdiff_t s = 0; s < t.segment_count; ++s) {
    const Segment<T>& segment = t.segments[s];
    V acc[R][P * N];
    RECURRA_UNROLL
    for (int m = 0; m < R; ++m) {
      RECURRA_UNROLL
      for (int n = 0; n < P * N; ++n)
        acc[m][n] = s == 0 && t.scales->resumes ? load<V>(out + m * t.out_row + n / N * t.out_strip + n % N * L) : V{};
    }
    accumulate<W, R, N, false, P>(acc, segment.a + first * segment.row, segment.row,
                                  static_cast<const char*>(segment.b) + strip * t.b_strip, t.b_row, t.b_strip,
                                  segment.k);
    const T* const scales = t.scales->first + s * t.scales->segment + strip * t.scales->strip;
    const T* const before = s ? out : t.init ? t.init + strip * t.init_strip : nullptr;
    const ptrdiff_t before_row = s ? t.out_row : t.init_row, before_strip = s ? t.out_strip : t.init_strip;
    RECURRA_UNROLL
    for (int n = 0; n < P * N; ++n) {
      const V scale = load<V>(scales + n / N * t.scales->strip + n % N * L);
      RECURRA_UNROLL
      for (int m = 0; m < R; ++m)
        store(
            out + m * t.out_row + n / N * t.out_strip + n % N * L,
            fma(scale, acc[m][n], before ? load<V>(before + m * before_row + n / N * before_strip + n % N * L) : V{}));
    }
  }
}

// With scales, `other` is the sum alone: its init, null at first, is the sum so far.
template <class T, class W, int N, int Q>
void multiply_beside_tile(const Tile<T>& own, ptrdiff_t row, const Tile<T>& other, ptrdiff_t first) {
  typedef Vec<T> V;
  constexpr bool scaled = W::kLargest > 0;
  constexpr int L = kLanes<T>, R = kBesideRows;
  V mine[1][N], acc[R][N];
  RECURRA_UNROLL
  for (int n = 0; n < N; ++n) mine[0][n] = !scaled && own.init ? load<V>(own.init + n * L) : V{};
  RECURRA_UNROLL
  for (int m = 0; m < R; ++m) {
    RECURRA_UNROLL
    for (int n = 0; n < N; ++n)
      acc[m][n] = scaled && !other.init ? V{} : load<V>(other.init + m * other.init_row + n * L);
  }
  const Segment<T> x = *own.segments, y = *other.segments;
  const T *xa = x.a + row * x.row, *ya = y.a + first * y.row;
  const char *xb = static_cast<const char*>(x.b), *yb = static_cast<const char*>(y.b);
  for (ptrdiff_t k = 0; k < y.k; ++k) {
    RECURRA_UNROLL
    for (int q = 0; q < Q; ++q) accumulate<W, 1, N, false, 1>(mine, xa + q, 0, xb + q * own.b_row, own.b_row, 0, 1);
    accumulate<W, R, N, false, 1>(acc, ya, y.row, yb, other.b_row, 0, 1);
    xa += Q, xb += Q * own.b_row;
    ya += 1, yb += other.b_row;
  }
  accumulate<W, 1, N, false, 1>(mine, xa, 0, xb, own.b_row, 0, x.k - Q * y.k);
  if constexpr (scaled) {
    RECURRA_UNROLL
    for (int n = 0; n < N; ++n)
      mine[0][n] = fma(load<V>(own.scales->first + n * L), mine[0][n], own.init ? load<V>(own.init + n * L) : V{});
  }
  RECURRA_UNROLL
  for (int n = 0; n < N; ++n) store(own.out + n * L, mine[0][n]);
  RECURRA_UNROLL
  for (int m = 0; m < R; ++m) {
    RECURRA_UNROLL
    for (int n = 0; n < N; ++n) store(other.out + m * other.out_row + n * L, acc[m][n]);
  }
}

// Sizes that do not fit stand in as one row or strip, never called.
constexpr int kFourIn = strips_of(4);
#define RECURRA_TILE_ROW(F, R)                                               \
  {                                                                          \
    F<T, W, R, 1>, F<T, W, R, 2>, F<T, W, (R <= max_rows(3) ? R : 1), 3>,    \
        F<T, W, (R <= (kFourIn == 1 ? 6 : 3) ? R : 1), 4 / kFourIn, kFourIn> \
  }
#define RECURRA_TILE_TABLE(F)                                                                          \
  {                                                                                                    \
    RECURRA_TILE_ROW(F, 1), RECURRA_TILE_ROW(F, 2), RECURRA_TILE_ROW(F, 3), RECURRA_TILE_ROW(F, 4),    \
        RECURRA_TILE_ROW(F, 5), RECURRA_TILE_ROW(F, 6), RECURRA_TILE_ROW(F, 7), RECURRA_TILE_ROW(F, 8) \
  }
#define RECURRA_PANELS(P)                                                                  \
  {                                                                                        \
    multiply_tile<T, W, 1, 1, P>, multiply_tile<T, W, 1, 2, (P <= max_panels(2) ? P : 1)>, \
        multiply_tile<T, W, 1, 3, (P <= max_panels(3) ? P : 1)>,                           \
        multiply_tile<T, W, 1, 4 / kFourIn, (P <= max_panels(4) ? P : 1) * kFourIn>        \
  }
constexpr int kThree = fits_beside(3) ? 3 : 1, kFour = fits_beside(4) ? 4 : 1;
template <class T, class W>
constexpr Tiles<T> kTiles = {RECURRA_TILE_TABLE(multiply_tile),
                             {RECURRA_PANELS(1), RECURRA_PANELS(2), RECURRA_PANELS(3), RECURRA_PANELS(4),
                              RECURRA_PANELS(5), RECURRA_PANELS(6), RECURRA_PANELS(7), RECURRA_PANELS(8)},
                             {{multiply_beside_tile<T, W, 1, 2>, multiply_beside_tile<T, W, 1, 4>},
                              {multiply_beside_tile<T, W, 2, 2>, multiply_beside_tile<T, W, 2, 4>},
                              {multiply_beside_tile<T, W, kThree, 2>, multiply_beside_tile<T, W, kThree, 4>},
                              {multiply_beside_tile<T, W, kFour, 2>, multiply_beside_tile<T, W, kFour, 4>}}};
#undef RECURRA_PANELS

}  // namespace

// A format W other than T: one source, which CMakeLists.txt names in RECURRA_STORAGES. It has narrow<T>(from, to, n).
#define RECURRA_STORAGE(name, W)                                                                           \
  extern const Storage<float> name##_f32;                                                                  \
  extern const Storage<double> name##_f64;                                                                 \
  constinit const Storage<float> name##_f32 = {#name, W::kBytes, W::template narrow<float>, W::kLargest,   \
                                               kTiles<float, W>};                                          \
  constinit const Storage<double> name##_f64 = {#name, W::kBytes, W::template narrow<double>, W::kLargest, \
                                                kTiles<double, W>}

}  // namespace recurra::RECURRA_ISA
