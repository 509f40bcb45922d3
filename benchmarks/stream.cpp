// One step of a stream from an arrival to its output: the cell, and all that stands around it at every step.
#include "program/stream.h"

#include "cpu/isa.h"
#include "layers/recurrent.h"
#include "platform/flush.h"
#include "registration.h"

namespace recurra {
namespace {

template <class T>
std::shared_ptr<Program<T>> program_of(const char* cell, ptrdiff_t inputs, ptrdiff_t hidden) {
  RecurrentOptions options;
  options.cell = cell;
  options.input_size = inputs;
  options.hidden_size = hidden;
  const auto layer = std::make_shared<Recurrent<T>>(cpu_devices(), options);
  const ptrdiff_t n = layer->parameters()->size();
  const std::vector<T> values = numbers<T>(n, 0.1);
  std::copy(values.begin(), values.end(), layer->parameters()->values());
  layer->parameters()->touch();
  return std::make_shared<Program<T>>(std::vector<std::shared_ptr<Layer<T>>>{layer}, "benchmark");
}

template <class T>
void step(benchmark::State& state, const char* cell, ptrdiff_t inputs, ptrdiff_t hidden) {
  Stream<T> stream(program_of<T>(cell, inputs, hidden), 1);
  const std::vector<T> x = numbers<T>(inputs);
  std::vector<T> y(static_cast<size_t>(hidden));
  for (auto _ : state) {
    const FlushScope flush;  // as every call from Python
    const StepInput<T> input = {x.data(), inputs, {}};
    const StepOutput<T> output = {y.data(), hidden};
    ProgramStepCall<T> call = {&input, &output, nullptr, 0, 0, {}, {}};
    stream.step(call);
    benchmark::ClobberMemory();
  }
}

template <class T>
void register_type() {
  for (const char* cell : {"lstm", "gru"})
    for (const auto& [inputs, hidden] : {std::pair<ptrdiff_t, ptrdiff_t>{1, 32}, {1, 40}, {128, 128}}) {
      const std::string size = std::to_string(inputs) + "-" + std::to_string(hidden);
      benchmark::RegisterBenchmark(
          benchmark_name<T>(cell + std::string("_stream_step"), size).c_str(),
          [=, inputs = inputs, hidden = hidden](benchmark::State& state) { step<T>(state, cell, inputs, hidden); });
    }
}

}  // namespace

void register_stream() {
  register_type<float>();
  register_type<double>();
}

}  // namespace recurra
