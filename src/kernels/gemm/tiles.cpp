// The micro-kernels of weights stored as T, and of weight gradients.
#include "kernels/gemm/micro_kernels.h"

namespace recurra::RECURRA_ISA {
namespace {

// For weight gradients, A column major: out += A B, a sum over rows and steps, which may be hundreds of
// thousands. It is made in three levels, short runs in registers, the block beside them, then the total: each level
// keeps the rounding errors of the one below small.
constexpr ptrdiff_t kShortRun = 64;
template <class T, class W, int R, int N, int P = 1>
void add_tile(const Tile<T>& t, ptrdiff_t first, ptrdiff_t strip) {
  typedef Vec<T> V;
  constexpr int L = kLanes<T>;
  T* const out = t.out + strip * t.out_strip;
  if (t.segment_count == 1 && t.segments->k <= kShortRun) {  // the block is the run
    const Segment<T>& segment = *t.segments;
    V acc[R][P * N] = {};
    accumulate<W, R, N, true, P>(acc, segment.a + first, segment.row,
                                 static_cast<const char*>(segment.b) + strip * t.b_strip, t.b_row, t.b_strip,
                                 segment.k);
    RECURRA_UNROLL
    for (int m = 0; m < R; ++m) {
      RECURRA_UNROLL
      for (int n = 0; n < P * N; ++n) {
        T* to = out + m * t.out_row + n / N * t.out_strip + n % N * L;
        store(to, load<V>(to) + (V{} + acc[m][n]));
      }
    }
    return;
  }
  T block[R * P * N * L] = {};
  for (int m = 0; m < R; ++m)
    for (int p = 0; p < P; ++p) prefetch(out + m * t.out_row + p * t.out_strip, N * L);
  for (ptrdiff_t s = 0; s < t.segment_count; ++s) {
    const Segment<T>& segment = t.segments[s];
    for (ptrdiff_t k = 0; k < segment.k; k += kShortRun) {
      V acc[R][P * N] = {};
      accumulate<W, R, N, true, P>(acc, segment.a + first + k * segment.row, segment.row,
                                   static_cast<const char*>(segment.b) + strip * t.b_strip + k * t.b_row, t.b_row,
                                   t.b_strip, segment.k - k < kShortRun ? segment.k - k : kShortRun);
      RECURRA_UNROLL
      for (int m = 0; m < R; ++m) {
        RECURRA_UNROLL
        for (int n = 0; n < P * N; ++n)
          store(block + (m * P * N + n) * L, load<V>(block + (m * P * N + n) * L) + acc[m][n]);
      }
    }
  }
  for (int m = 0; m < R; ++m)
    for (int n = 0; n < P * N; ++n) {
      T* to = out + m * t.out_row + n / N * t.out_strip + n % N * L;
      store(to, load<V>(to) + load<V>(block + (m * P * N + n) * L));
    }
}

template <class T, class W = Own<T>>
constexpr AddTiles<T> kAddTiles = {RECURRA_TILE_TABLE(add_tile)};

}  // namespace

constinit const Storage<float> own_f32 = {"f32", sizeof(float), nullptr, 0, kTiles<float, Own<float>>};
constinit const Storage<double> own_f64 = {"f64", sizeof(double), nullptr, 0, kTiles<double, Own<double>>};
constinit const AddTiles<float> add_tiles_f32 = kAddTiles<float>;
constinit const AddTiles<double> add_tiles_f64 = kAddTiles<double>;

}  // namespace recurra::RECURRA_ISA
