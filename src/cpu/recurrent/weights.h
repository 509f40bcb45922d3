// A stack's weights on the CPU: from the flat parameters to the kernels' panels, and their gradient back.
#pragma once
#include <algorithm>

#include "cpu/recurrent/options.h"
#include "cpu/recurrent/tape.h"
#include "platform/tasks.h"

namespace recurra {

template <class T>
struct CpuWeights : RecurrentWeights<T> {
  std::vector<const T*> forward;            // [layer, direction]
  std::vector<const T*> hidden[2], input;   // transposed
  std::vector<const T*> units, projection;  // of options, or null
};

template <class T>
std::unique_ptr<RecurrentWeights<T>> pack_weights(const RecurrentSpec& spec,
                                                  const std::vector<RecurrentOffsets>& offsets, const T* parameters,
                                                  bool transposed, int threads, Arena memory) {
  const Shape<T> shape = {spec};
  auto packed = std::make_unique<CpuWeights<T>>();
  packed->memory = std::move(memory);
  for (size_t i = 0; i < offsets.size(); ++i) {
    const ptrdiff_t layer = ptrdiff_t(i) / spec.directions, inputs = shape.input_size(layer), H = spec.hidden_size;
    const T* weight_ih = parameters + offsets[i].weight_ih;
    const T* weight_hh = parameters + offsets[i].weight_hh;
    packed->units.push_back(pack_unit_weights(shape, offsets[i], parameters, packed->memory));
    packed->projection.push_back(nullptr);
    if (spec.proj_size) {  // y = W_hr m, or transposed dm = dy W_hr
      const ptrdiff_t k = transposed ? shape.state_size : H, columns = transposed ? H : shape.state_size;
      T* projection = packed->memory.template take<T>(size_t(cpu_device<T>().packed_size(k, columns)));
      cpu_device<T>().pack_matrix(parameters + offsets[i].weight_hr, k, columns, !transposed, projection);
      packed->projection.back() = projection;
    }
    if (transposed) {
      T* input = packed->memory.template take<T>(size_t(shape.part_size(0) * shape.input_vectors(layer) * shape.lanes));
      packed->input.push_back(input);
      T* hidden[2] = {};
      for (int stage = 0; stage < shape.info.stages; ++stage) {
        hidden[stage] =
            packed->memory.template take<T>(size_t(shape.part_size(1 + stage) * shape.hidden_vectors() * shape.lanes));
        packed->hidden[stage].push_back(hidden[stage]);
      }
      for_each_task(shape.panels.count, threads, [&](ptrdiff_t panel) {
        pack_transposed(shape.info, shape.panels, H, 0, weight_ih, inputs, shape.lanes,
                        shape.columns(shape.input_vectors(layer)), panel, input);
        for (int stage = 0; stage < shape.info.stages; ++stage)
          pack_transposed(shape.info, shape.panels, H, 1 + stage, weight_hh, shape.state_size, shape.lanes,
                          shape.columns(shape.hidden_vectors()), panel, hidden[stage]);
      });
      continue;
    }
    const PackedLayout layout = shape.layout(layer);
    T* forward = packed->memory.template take<T>(size_t(layout.panel * shape.panels.count));
    packed->forward.push_back(forward);
    for_each_task(shape.panels.count, threads, [&](ptrdiff_t panel) {
      T* bias = forward + panel * layout.panel;
      const bool whole = (panel + 1) * shape.panels.units <= H;
      std::fill_n(bias, whole ? shape.panels.columns : layout.panel, T(0));
      for (int part = 0; part <= shape.info.stages; ++part)
        for_weights(shape.info, shape.panels, layout, H, panel, part, part ? shape.state_size : inputs, forward,
                    part ? weight_hh : weight_ih,
                    [](T* to, ptrdiff_t to_stride, const T* from, ptrdiff_t from_stride, ptrdiff_t units, ptrdiff_t n) {
                      transpose<false>(to, to_stride, from, from_stride, units, n);
                    });
      for (bool hidden : {false, true})
        if (spec.bias)
          for_biases(shape.info, shape.panels, H, panel, hidden,
                     parameters + (hidden ? offsets[i].bias_hh : offsets[i].bias_ih),
                     [&](int g, ptrdiff_t w, T value) { bias[g * shape.panels.units + w] += value; });
    });
  }
  return packed;
}

// Adds the packed gradient that a backward left in the tape.
template <class T>
void add_weight_gradient(const RecurrentSpec& spec, const std::vector<RecurrentOffsets>& offsets,
                         const CpuTape<T>& tape, T* gradient, int threads) {
  const Shape<T> shape = {spec};
  for (size_t i = 0; i < offsets.size(); ++i) {
    const ptrdiff_t layer = ptrdiff_t(i) / spec.directions, inputs = shape.input_size(layer), H = spec.hidden_size;
    const PackedLayout layout = shape.gradient_layout(layer);
    const T* packed = tape.gradient[i];
    for_each_task(shape.panels.count, threads, [&](ptrdiff_t panel) {
      for (int part = 0; part <= shape.info.stages; ++part)
        for_weights(shape.info, shape.panels, layout, H, panel, part, part ? shape.state_size : inputs, packed,
                    gradient + (part ? offsets[i].weight_hh : offsets[i].weight_ih),
                    [](const T* from, ptrdiff_t from_stride, T* to, ptrdiff_t to_stride, ptrdiff_t units, ptrdiff_t n) {
                      transpose<true>(to, to_stride, from, from_stride, n, units);
                    });
      if (!spec.bias || spec.layer_norm) return;
      for (bool hidden : {false, true})
        for_biases(
            shape.info, shape.panels, H, panel, hidden, gradient + (hidden ? offsets[i].bias_hh : offsets[i].bias_ih),
            [&](int g, ptrdiff_t w, T& value) {  // in the row of ones of the part that feeds the column
              const Range input = shape.info.input;
              const int part = has(input, g) ? 0 : 1;
              const int column = g - (part ? shape.info.recurrent[0].begin : input.begin);
              value +=
                  packed[panel * layout.panel + layout.offset[part] +
                         (part ? shape.state_size : inputs) * layout.width[part] + column * shape.panels.units + w];
            });
    });
    add_unit_gradient(shape, offsets[i], tape.unit_gradient[i], gradient);
    add_projection_gradient(shape, offsets[i], tape.projection_gradient[i], gradient);
  }
}

}  // namespace recurra
