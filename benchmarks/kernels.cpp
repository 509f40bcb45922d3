#include "cpu/isa.h"
#include "registration.h"

namespace recurra {
namespace {

std::string size_name(ptrdiff_t rows, ptrdiff_t k, ptrdiff_t columns) {
  return std::to_string(rows) + "x" + std::to_string(k) + "x" + std::to_string(columns);
}

// y (rows, columns) = x (rows, k) B + bias, B packed.
template <class T>
void product(benchmark::State& state, ptrdiff_t rows, ptrdiff_t k, ptrdiff_t columns) {
  const Device<T>& device = cpu_device<T>();
  const std::vector<T> x = numbers<T>(rows * k), plain = numbers<T>(k * columns), bias = numbers<T>(columns + 64);
  std::vector<T> packed(static_cast<size_t>(device.packed_size(k, columns))), y(static_cast<size_t>(rows * columns));
  device.pack_matrix(plain.data(), k, columns, false, packed.data());
  const ProductCall<T> call = {rows, k, columns, x.data(), k, packed.data(), bias.data(), y.data(), columns};
  for (auto _ : state) {
    kernels<T>().product(call);
    benchmark::ClobberMemory();
  }
  count(state, 2.0 * double(rows * k * columns), double(sizeof(T)) * double(rows * k + k * columns + rows * columns));
}

// out (k, columns) += a (rows, k)^T b (rows, columns): a weight gradient.
template <class T>
void outer(benchmark::State& state, ptrdiff_t rows, ptrdiff_t k, ptrdiff_t columns) {
  const std::vector<T> a = numbers<T>(rows * k), b = numbers<T>(rows * columns);
  const ptrdiff_t lanes = kernels<T>().lanes, padded = (columns + lanes - 1) / lanes * lanes;
  std::vector<T> out(static_cast<size_t>(k * padded)), scratch(static_cast<size_t>(rows * padded));
  const OuterCall<T> call = {rows, k, columns, a.data(), k, b.data(), columns, out.data(), padded, scratch.data()};
  for (auto _ : state) {
    kernels<T>().outer(call);
    benchmark::ClobberMemory();
  }
  count(state, 2.0 * double(rows * k * columns),
        double(sizeof(T)) * double(rows * k + rows * columns + 2 * k * columns));
}

template <class T>
void map(benchmark::State& state, void (*function)(const T*, T*, ptrdiff_t), ptrdiff_t n) {
  const std::vector<T> x = numbers<T>(n, 5);
  std::vector<T> y(x.size());
  for (auto _ : state) {
    function(x.data(), y.data(), n);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * n);
  state.SetBytesProcessed(state.iterations() * n * ptrdiff_t(2 * sizeof(T)));
}

template <class T>
void cross_entropy(benchmark::State& state, ptrdiff_t n) {
  const std::vector<T> x = numbers<T>(n, 5);
  std::vector<T> gradient(x.size());
  for (auto _ : state) {
    benchmark::DoNotOptimize(kernels<T>().rows.softmax_cross_entropy(x.data(), n, n / 2, gradient.data()));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * n);
  state.SetBytesProcessed(state.iterations() * n * ptrdiff_t(2 * sizeof(T)));
}

template <class T>
void register_type() {
  // One row, a tile, a batch; odd sizes beside even ones.
  const ptrdiff_t products[][3] = {{1, 128, 512}, {6, 128, 512}, {32, 512, 512}, {256, 512, 2048}, {33, 67, 129}};
  for (const auto& s : products) {
    const std::string size = size_name(s[0], s[1], s[2]);
    const auto rows = s[0], k = s[1], columns = s[2];
    benchmark::RegisterBenchmark(benchmark_name<T>("product", size).c_str(),
                                 [=](benchmark::State& state) { product<T>(state, rows, k, columns); });
    benchmark::RegisterBenchmark(benchmark_name<T>("outer", size).c_str(),
                                 [=](benchmark::State& state) { outer<T>(state, rows, k, columns); });
  }
  const RowKernels<T>& rows = kernels<T>().rows;
  const ptrdiff_t n = 4096;
  const struct {
    const char* name;
    void (*function)(const T*, T*, ptrdiff_t);
  } functions[] = {{"exp", rows.exp}, {"tanh", rows.tanh}, {"sigmoid", rows.sigmoid}};
  for (const auto& f : functions) {
    const auto function = f.function;
    benchmark::RegisterBenchmark(benchmark_name<T>(f.name, std::to_string(n)).c_str(),
                                 [=](benchmark::State& state) { map<T>(state, function, n); });
  }
  benchmark::RegisterBenchmark(benchmark_name<T>("softmax_cross_entropy", std::to_string(n)).c_str(),
                               [=](benchmark::State& state) { cross_entropy<T>(state, n); });
}

}  // namespace

void register_kernels() {
  register_type<float>();
  register_type<double>();
}

}  // namespace recurra
