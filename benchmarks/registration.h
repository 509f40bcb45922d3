// What the microbenchmarks share: names with the instruction set and size in them, and rates beside the times.
#pragma once
#include <benchmark/benchmark.h>

#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "cpu/isa.h"
#include "device/device.h"

namespace recurra {

void register_kernels();    // products and functions over rows
void register_recurrent();  // a cell's forward and BPTT
void register_stream();     // a step of a stream

template <class T>
constexpr const char* type_name() {
  return sizeof(T) == 4 ? "f32" : "f64";
}

// "product/avx512/f32/32x512x512"
template <class T>
std::string benchmark_name(const std::string& what, const std::string& size) {
  return what + "/" + isa_name() + "/" + type_name<T>() + "/" + size;
}

// What one iteration does, as rates.
inline void count(benchmark::State& state, double flop, double bytes) {
  const auto per_iteration = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["FLOP/s"] = benchmark::Counter(flop, per_iteration);
  state.counters["bytes/s"] = benchmark::Counter(bytes, per_iteration, benchmark::Counter::kIs1024);
}

// Numbers in [-limit, limit], none of them special.
template <class T>
std::vector<T> numbers(ptrdiff_t n, double limit = 1) {
  std::mt19937 generator(1);
  std::uniform_real_distribution<double> uniform(-limit, limit);
  std::vector<T> values(static_cast<size_t>(n));
  for (T& value : values) value = static_cast<T>(uniform(generator));
  return values;
}

}  // namespace recurra
