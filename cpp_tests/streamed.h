// A layer, a program of it and numbers to stream through it.
#pragma once
#include "layers/recurrent.h"
#include "program/stream.h"

namespace recurra {

// What the steps of a stream and the chunks between them are compared with: one call over the whole.
struct Streamed {
  static constexpr ptrdiff_t kSteps = 12;
  std::shared_ptr<Recurrent<float>> layer;
  std::shared_ptr<Program<float>> program;
  ptrdiff_t rows, inputs, outputs;
  std::vector<float> x;
  std::vector<uint8_t> reset;

  Streamed(const char* cell, ptrdiff_t inputs, ptrdiff_t hidden, ptrdiff_t rows, bool return_sequences = true)
      : rows(rows), inputs(inputs), outputs(hidden) {
    RecurrentOptions options;
    options.cell = cell;
    options.input_size = inputs;
    options.hidden_size = hidden;
    options.num_layers = 3;
    options.return_sequences = return_sequences;
    layer = std::make_shared<Recurrent<float>>(cpu_devices(), options);
    set(1);
    program = std::make_shared<Program<float>>(std::vector<std::shared_ptr<Layer<float>>>{layer}, "layer");
    for (ptrdiff_t i = 0; i < rows * kSteps * inputs; ++i) x.push_back(float((i * 29) % 83 - 41) / 40);
    for (ptrdiff_t i = 0; i < rows * kSteps; ++i) reset.push_back(i % 5 == 3);
  }
  void set(ptrdiff_t seed) {
    for (ptrdiff_t i = 0; i < layer->parameters()->size(); ++i)
      layer->parameters()->values()[i] = float((i * 37 + seed) % 101 - 50) / 150;
    layer->parameters()->touch();
  }
  std::vector<float> output() const { return std::vector<float>(size_t(rows * kSteps * outputs)); }
  void run(Stream<float>& stream, ptrdiff_t begin, ptrdiff_t steps, std::vector<float>& y) const {
    const Value<float> input = {{rows, steps, nullptr, reset.data() + begin, kSteps, 1},
                                inputs,
                                false,
                                {{x.data() + begin * inputs, kSteps * inputs, inputs}, {}}};
    const Sequence<float> output = {y.data() + begin * outputs, kSteps * outputs, outputs};
    stream.run(&input, &output, nullptr);
  }
};

}  // namespace recurra
