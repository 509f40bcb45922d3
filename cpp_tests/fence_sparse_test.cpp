// Training a sparse embedding: the rows that a gradient has touched, and the optimisers' steps on them alone.
#include <gtest/gtest.h>

#include "device/row_blocks.h"
#include "fence_values.h"
#include "layers/embedding.h"
#include "optim/optim.h"
#include "program/program.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kRows = 3, kSteps = 7, kTable = 40, kSize = 4;

// The touched rows, norms and weights of a few steps of every optimiser.
template <class T>
std::vector<double> trained(const Devices& devices) {
  const auto layer = std::make_shared<Embedding<T>>(devices, kTable, kSize, true);
  const auto program = std::make_shared<Program<T>>(std::vector<std::shared_ptr<Layer<T>>>{layer}, "Embedding");
  set_parameters(*layer);
  Parameters<T>& parameters = *layer->parameters();
  const Device<T>& device = devices.of<T>();
  const ptrdiff_t n = parameters.size();
  Arena own(devices.memory);
  T* const moments = own.take<T>(size_t(4 * n));
  fill_flat(device, moments, 4 * n, T(0));
  std::vector<double> seen;
  for (int64_t step = 1; step <= 3; ++step) {
    std::vector<int64_t> tokens;
    for (int64_t i = 0; i < kRows * kSteps; ++i) tokens.push_back(i * i * step % kTable);
    const int64_t lengths[kRows] = {kSteps, 0, 4};
    Value<T> x = {};
    x.batch = {kRows, kSteps, lengths, nullptr, 0, 0};
    x.features = 1;
    x.x.tokens = {tokens.data(), kSteps, 1};
    const auto tape = program->record({&x, {}}, {});
    const std::vector<T> dy = numbers<T>(size_t(kRows * kSteps * kSize), int(step));
    const Sequence<const T> dy_rows = {dy.data(), kSteps * kSize, kSize};
    const Sequence<T> none = {};
    tape->backward(&dy_rows, {}, &none, {}, nullptr);

    const WriteLock lock(parameters.mutex());
    const std::vector<int64_t>& rows = parameters.touched()->rows();
    EXPECT_LT(rows.size(), size_t(kTable));
    seen.insert(seen.end(), rows.begin(), rows.end());
    const Norm norm = gradient_norm<T>(device, parameters.grads(), kSize, 1, 0.2, rows.data(), ptrdiff_t(rows.size()));
    seen.insert(seen.end(), {norm.sum, double(norm.exponent), double(norm.count)});
    const StepOptions common = {0.01, 0.1, 0.5, 1, 1};
    for_row_blocks(rows.data(), ptrdiff_t(rows.size()), kSize, [&](ptrdiff_t, int64_t row) {
      const ptrdiff_t at = row * kSize;
      T *values = parameters.values() + at, *moment = moments + at;
      const T* grads = parameters.grads() + at;
      sgd_step(device, values, grads, moment, kSize, common, {0.9, true});
      adam_step(device, values, grads, moment + n, moment + 2 * n, kSize, common, {step, 0.9, 0.99, 1e-8, true, false});
      adagrad_step(device, values, grads, moment + 3 * n, kSize, common, {1e-8});
    });
    parameters.touch();
    parameters.gradient().zero();
    EXPECT_TRUE(parameters.touched()->rows().empty());
    const HostAccess access(devices);
    seen.insert(seen.end(), parameters.values(), parameters.values() + n);
    seen.insert(seen.end(), parameters.grads(), parameters.grads() + n);
  }
  return seen;
}

TEST(FencedSparseRows, TrainToThePlainDevicesBits) {
  begin_fence_case("sparse rows");
  EXPECT_EQ(trained<float>(fenced_devices()), trained<float>(cpu_devices()));
  EXPECT_EQ(trained<double>(fenced_devices()), trained<double>(cpu_devices()));
}

}  // namespace
}  // namespace recurra
