#include "cpu/measure.h"

#include <algorithm>
#include <chrono>
#include <cstddef>

#include "cpu/isa.h"
#include "platform/memory.h"

namespace recurra {
namespace {

// Seconds per call of f, the best of several batches: others use the machine too.
template <class F>
double seconds(int calls, const F& f) {
  double best = 1e9;
  for (int batch = 0; batch < 7; ++batch) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) f();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / calls);
  }
  return best;
}

double read_gbs(const float* data, size_t bytes, int calls) {
  volatile float sum = 0;
  const auto n = static_cast<ptrdiff_t>(bytes / sizeof(float));
  return double(bytes) / seconds(calls, [&] { sum = isa().read(data, n); }) * 1e-9;
}

}  // namespace

Peak measure_peak() {
  float chains[12] = {};
  constexpr ptrdiff_t kRounds = 200000;
  const double flop = 2.0 * 12 * double(kernels<float>().lanes) * double(kRounds);
  Peak peak = {};
  peak.fma_gflops = flop / seconds(1, [&] { isa().fma_chains(chains, kRounds); }) * 1e-9;
  constexpr size_t kLargest = size_t{256} << 20;
  Arena arena;
  float* data = arena.take<float>(kLargest / sizeof(float));
  std::fill_n(data, kLargest / sizeof(float), 1.0f);
  peak.l2_gbs = read_gbs(data, size_t{256} << 10, 400);
  peak.l3_gbs = read_gbs(data, size_t{8} << 20, 10);
  peak.dram_gbs = read_gbs(data, kLargest, 1);
  return peak;
}

}  // namespace recurra
