// A stack's weights on the CPU: from the flat parameters to the kernels' panels, and their gradient back.
#pragma once
#include <algorithm>

#include "cpu/recurrent/options.h"
#include "cpu/recurrent/tape.h"
#include "platform/error.h"
#include "platform/tasks.h"

namespace recurra {

template <class T>
struct CpuWeights : RecurrentWeights<T> {
  std::vector<PackedWeights<T>> forward;    // [layer, direction]
  std::vector<const T*> hidden[2], input;   // transposed
  std::vector<const T*> units;              // of options, or null
  std::vector<StoredMatrix<T>> projection;  // likewise
};

// Units past the last one are zeros.
template <class T>
void pack_panel(const Shape<T>& shape, const PackedLayout& layout, ptrdiff_t panel, ptrdiff_t inputs,
                const T* weight_ih, const T* weight_hh, T* packed) {
  const ptrdiff_t H = shape.spec.hidden_size;
  if ((panel + 1) * shape.panels.units > H)
    std::fill_n(packed + layout.begin<T>(panel, 0), layout.panel() / ptrdiff_t(sizeof(T)), T(0));
  for (int part = 0; part <= shape.info.stages; ++part)
    for_weights(shape.info, shape.panels, layout, H, panel, part, part ? shape.state_size : inputs, packed,
                part ? weight_hh : weight_ih,
                [](T* to, ptrdiff_t to_stride, const T* from, ptrdiff_t from_stride, ptrdiff_t units, ptrdiff_t n) {
                  transpose<false>(to, to_stride, from, from_stride, units, n);
                });
}

// Divides a panel's columns by their scales, [part][panel][columns].
template <class T>
void scale_panel(const Shape<T>& shape, const PackedLayout& layout, ptrdiff_t panel, T largest, T* packed, T* scales) {
  const Panels& panels = shape.panels;
  for (int part = 0; part <= shape.info.stages; ++part) {
    const Range range = part ? shape.info.recurrent[part - 1] : shape.info.input;
    T* const of_panel = scales + (part * panels.count + panel) * panels.columns + range.begin * panels.units;
    for (ptrdiff_t s = 0; s < layout.strips; ++s)
      scale_columns(packed + layout.begin<T>(panel, part, s), layout.rows[part], layout.width[part], largest,
                    of_panel + s * layout.width[part]);
  }
}

template <class T>
const T* pack_biases(const Shape<T>& shape, const RecurrentOffsets& offsets, const T* parameters, Arena& memory) {
  const Panels& panels = shape.panels;
  T* const biases = zeros<T>(memory, panels.count * panels.columns);
  for (bool hidden : {false, true})
    for (ptrdiff_t panel = 0; shape.spec.bias && panel < panels.count; ++panel)
      for_biases(shape.info, panels, shape.spec.hidden_size, panel, hidden,
                 parameters + (hidden ? offsets.bias_hh : offsets.bias_ih),
                 [&](int g, ptrdiff_t w, T value) { biases[panel * panels.columns + g * panels.units + w] += value; });
  return biases;
}

template <class T>
PackedWeights<T> pack_forward(const Shape<T>& shape, ptrdiff_t layer, const RecurrentOffsets& offsets,
                              const T* parameters, const Storage<T>& storage, int threads, Arena& memory) {
  const ptrdiff_t inputs = shape.input_size(layer);
  const ptrdiff_t columns = shape.panels.columns, part = shape.panels.count * columns;
  const PackedLayout as_T = shape.layout(layer, sizeof(T));
  T* const scales = storage.largest > 0 ? zeros<T>(memory, (1 + shape.info.stages) * part) : nullptr;
  const char* panels = stored<T>(storage, shape.elements(as_T), memory, [&](T* packed) {
    for_each_task(shape.panels.count, threads, [&](ptrdiff_t panel) {
      pack_panel(shape, as_T, panel, inputs, parameters + offsets.weight_ih, parameters + offsets.weight_hh, packed);
      if (scales) scale_panel(shape, as_T, panel, storage.largest, packed, scales);
    });
  });
  return {&storage,
          shape.layout(layer, storage.bytes),
          panels,
          pack_biases(shape, offsets, parameters, memory),
          {scales, part, columns / shape.panels.strips, false}};
}

// For backward: the transposed matrices, which are stored as T.
template <class T>
void pack_backward(const Shape<T>& shape, ptrdiff_t layer, const RecurrentOffsets& offsets, const T* parameters,
                   int threads, CpuWeights<T>& packed) {
  const ptrdiff_t inputs = shape.input_size(layer), H = shape.spec.hidden_size;
  T* input = packed.memory.template take<T>(size_t(shape.part_size(0) * shape.input_vectors(layer) * shape.lanes));
  packed.input.push_back(input);
  T* hidden[2] = {};
  for (int stage = 0; stage < shape.info.stages; ++stage) {
    hidden[stage] =
        packed.memory.template take<T>(size_t(shape.part_size(1 + stage) * shape.hidden_vectors() * shape.lanes));
    packed.hidden[stage].push_back(hidden[stage]);
  }
  for_each_task(shape.panels.count, threads, [&](ptrdiff_t panel) {
    pack_transposed(shape.info, shape.panels, H, 0, parameters + offsets.weight_ih, inputs, shape.lanes,
                    shape.columns(shape.input_vectors(layer)), panel, input);
    for (int stage = 0; stage < shape.info.stages; ++stage)
      pack_transposed(shape.info, shape.panels, H, 1 + stage, parameters + offsets.weight_hh, shape.state_size,
                      shape.lanes, shape.columns(shape.hidden_vectors()), panel, hidden[stage]);
  });
}

// y = W_hr m, or transposed dm = dy W_hr.
template <class T>
StoredMatrix<T> pack_projection(const Shape<T>& shape, const T* weight_hr, bool transposed, StorageKind storage,
                                Arena& memory) {
  const ptrdiff_t H = shape.spec.hidden_size, k = transposed ? shape.state_size : H;
  const ptrdiff_t columns = transposed ? H : shape.state_size;
  return cpu_device<T>().store_matrix(weight_hr, k, columns, !transposed, storage, memory);
}

template <class T>
std::unique_ptr<RecurrentWeights<T>> pack_weights(const RecurrentPacking<T>& call, Arena memory) {
  const RecurrentSpec& spec = *call.spec;
  const Shape<T> shape = {spec};
  const Storage<T>& storage = *kernels<T>().storages[call.storage];
  check(!call.transposed || !storage.narrow, "pack", "got ", storage.name,
        " for weights of a backward, expected the storage of the parameters");
  auto packed = std::make_unique<CpuWeights<T>>();
  packed->memory = std::move(memory);
  for (size_t i = 0; i < call.offsets->size(); ++i) {
    const RecurrentOffsets& offsets = (*call.offsets)[i];
    const ptrdiff_t layer = ptrdiff_t(i) / spec.directions;
    packed->units.push_back(pack_unit_weights(shape, offsets, call.parameters, packed->memory));
    packed->projection.push_back(spec.proj_size ? pack_projection(shape, call.parameters + offsets.weight_hr,
                                                                  call.transposed, call.storage, packed->memory)
                                                : StoredMatrix<T>());
    if (call.transposed)
      pack_backward(shape, layer, offsets, call.parameters, call.threads, *packed);
    else
      packed->forward.push_back(
          pack_forward(shape, layer, offsets, call.parameters, storage, call.threads, packed->memory));
  }
  return packed;
}

// Where the ring has the gradients of a panel's column g.
template <class T>
const T* gates_in(const Panels& panels, const Ring<T>& ring, ptrdiff_t ring_rows, ptrdiff_t panel, int g) {
  const ptrdiff_t width = panels.columns / panels.strips, column = g * panels.units;
  return ring.gates + (panel * panels.strips + column / width) * ring_rows * width + column % width;
}

// Sums of a panel's gate gradients over all rows: what the biases add.
template <class T>
std::vector<T> sums_of_gates(const Shape<T>& shape, const Ring<T>& ring, const Rows& rows, ptrdiff_t panel) {
  const Panels& panels = shape.panels;
  const ptrdiff_t width = panels.columns / panels.strips, ring_rows = Blocks::ring_of(rows);
  std::vector<T> sums(size_t(panels.columns), T(0));
  for (ptrdiff_t s = 0; s < panels.strips; ++s) {
    const T* gates = ring.gates + (panel * panels.strips + s) * ring_rows * width;
    T* const to = sums.data() + s * width;
    for (int64_t r = 0; r < rows.offset[rows.steps]; ++r)
      for (ptrdiff_t c = 0; c < width; ++c) to[c] += gates[r * width + c];
  }
  return sums;
}
// Such a sum in the packed gradient: in the row of ones of the part that feeds the column.
template <class T>
T sum_of_ones(const Shape<T>& shape, const PackedLayout& layout, const T* packed, ptrdiff_t panel, int g,
              ptrdiff_t inputs, ptrdiff_t unit) {
  const Range input = shape.info.input;
  const int part = has(input, g) ? 0 : 1, column = g - (part ? shape.info.recurrent[0].begin : input.begin);
  return packed[place_of<T>(layout, panel, part, column * shape.panels.units) +
                (part ? shape.state_size : inputs) * layout.width[part] + unit];
}

// Adds the product of a panel's factors, for one part of the weights.
template <class T>
void add_outer_weights(const Shape<T>& shape, const Ring<T>& ring, const Rows& rows, ptrdiff_t panel, int part,
                       ptrdiff_t depth, T* weights) {
  const Panels& panels = shape.panels;
  const Range range = part ? shape.info.recurrent[part - 1] : shape.info.input;
  const signed char* gates = part ? shape.info.recurrent_gate : shape.info.input_gate;
  const ptrdiff_t H = shape.spec.hidden_size, first = panel * panels.units, ring_rows = Blocks::ring_of(rows);
  for (int g = range.begin; g < range.begin + range.count; ++g)
    kernels<T>().outer({rows.offset[rows.steps], std::min(panels.units, H - first), depth,
                        gates_in(panels, ring, ring_rows, panel, g), panels.columns / panels.strips,
                        ring.operands[part], ring_rows, weights + (gates[g] * H + first) * depth, depth, nullptr});
}

// Adds the gradient that a backward left in the tape.
template <class T>
void add_weight_gradient(const RecurrentSpec& spec, const std::vector<RecurrentOffsets>& offsets,
                         const CpuTape<T>& tape, T* gradient, int threads) {
  const Shape<T> shape = {spec};
  const bool outer = !tape.factors.empty();
  for (size_t i = 0; i < offsets.size(); ++i) {
    const ptrdiff_t layer = ptrdiff_t(i) / spec.directions, inputs = shape.input_size(layer), H = spec.hidden_size;
    const PackedLayout layout = shape.gradient_layout(layer);
    for_each_task(shape.panels.count, threads, [&](ptrdiff_t panel) {
      for (int part = 0; part <= shape.info.stages; ++part) {
        const ptrdiff_t depth = part ? shape.state_size : inputs;
        T* const weights = gradient + (part ? offsets[i].weight_hh : offsets[i].weight_ih);
        if (outer)
          add_outer_weights(shape, tape.factors[i], tape.rows, panel, part, depth, weights);
        else
          for_weights(shape.info, shape.panels, layout, H, panel, part, depth, static_cast<const T*>(tape.gradient[i]),
                      weights,
                      [](const T* from, ptrdiff_t from_stride, T* to, ptrdiff_t to_stride, ptrdiff_t units,
                         ptrdiff_t n) { transpose<true>(to, to_stride, from, from_stride, n, units); });
      }
      if (!spec.bias || spec.layer_norm) return;
      const std::vector<T> sums = outer ? sums_of_gates(shape, tape.factors[i], tape.rows, panel) : std::vector<T>();
      for (bool hidden : {false, true})
        for_biases(shape.info, shape.panels, H, panel, hidden,
                   gradient + (hidden ? offsets[i].bias_hh : offsets[i].bias_ih), [&](int g, ptrdiff_t w, T& value) {
                     value += outer ? sums[size_t(g * shape.panels.units + w)]
                                    : sum_of_ones(shape, layout, tape.gradient[i], panel, g, inputs, w);
                   });
    });
    add_unit_gradient(shape, offsets[i], tape.unit_gradient[i], gradient);
    add_projection_gradient(shape, offsets[i], tape.projection_gradient[i], gradient);
  }
}

}  // namespace recurra
