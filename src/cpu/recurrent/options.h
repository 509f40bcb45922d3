// The data of a cell's options: random masks, and vectors packed in panels, with their gradient.
#pragma once
#include <algorithm>
#include <cstring>
#include <limits>

#include "cpu/mask.h"
#include "cpu/packing.h"
#include "cpu/plan.h"
#include "cpu/recurrent/shape.h"
#include "platform/tasks.h"

namespace recurra {

// Streams of random numbers from a seed, beside those of the dropout between layers.
enum RandomStream : uint64_t { kInputMask = 1 << 20, kRecurrentMask = 2 << 20, kZoneH = 3 << 20, kZoneC = 4 << 20 };

// The options of a layer's direction, without the weights; `rows` are those of the batch. `always`: fill them in even
// if none is on, with neutral values.
template <class T>
CellOptions<T> options_of(const Shape<T>& shape, ptrdiff_t rows, bool training, const RandomRows& random, size_t index,
                          int threads, Arena& arena, bool always = false) {
  const RecurrentSpec& spec = shape.spec;
  CellOptions<T> options = {};
  options.vectors = shape.vectors;
  options.group = unit_group(rows);
  if (!always && !spec.has_options(training)) return options;
  options.any = true;
  options.projected = spec.proj_size > 0;
  options.state_size = shape.state_size;
  options.clip = spec.cell_clip > 0 ? T(spec.cell_clip) : std::numeric_limits<T>::infinity();
  const auto activation = [](const CellActivation<double>& a) {
    return CellActivation<T>{a.function, T(a.alpha), T(a.beta)};
  };
  options.activations = {activation(spec.activations.gate), activation(spec.activations.candidate),
                         activation(spec.activations.output)};
  const auto zone = [&](double rate, uint64_t stream) {
    if (!training || rate <= 0) return typename CellOptions<T>::Zone{T(rate), false, 0, 0, 0};
    const RandomMask mask(random, stream + index, rate);
    return typename CellOptions<T>::Zone{T(rate), true, mask.key, mask.first_row, mask.last};
  };
  options.zone_h = zone(spec.zoneout, kZoneH);
  options.zone_c = zone(spec.zoneout_cell, kZoneC);
  if (!training || spec.recurrent_dropout <= 0) return options;
  const RandomMask mask(random, kRecurrentMask + index, spec.recurrent_dropout);
  options.mask_row = shape.projected_row();
  T* masks = arena.take<T>(size_t(rows * options.mask_row));
  for_each_task(rows, threads, [&](ptrdiff_t row) {
    kernels<T>().rows.mask(mask.key, mask.row(row, 0), mask.last, T(0), T(1 / (1 - spec.recurrent_dropout)),
                           masks + row * options.mask_row, options.mask_row);
  });
  options.recurrent_mask = masks;
  return options;
}

template <class T>
T* zeros(Arena& memory, ptrdiff_t n) {
  T* data = memory.take<T>(size_t(n));
  std::memset(static_cast<void*>(data), 0, size_t(n) * sizeof(T));
  return data;
}

// f(packed place, plain place in the parameters) for every number of the options' vectors and, of a normalised cell,
// the biases. `gradient`: the packed layout is that of the gradient, which has the biases too.
template <class T, class F>
void for_unit_vectors(const Shape<T>& shape, const RecurrentOffsets& offsets, bool gradient, const F& f) {
  const ptrdiff_t H = shape.spec.hidden_size, units = shape.panels.units, columns = shape.panels.columns;
  const UnitVectors& vectors = shape.vectors;
  const ptrdiff_t size = gradient ? vectors.gradient_size(shape.panels) : vectors.size(shape.panels);
  const auto per_unit = [&](ptrdiff_t panel, ptrdiff_t at, ptrdiff_t plain) {
    const ptrdiff_t first = panel * units;
    for (ptrdiff_t w = 0; w < std::min(units, H - first); ++w) f(panel * size + at + w, plain + first + w);
  };
  const auto per_column = [&](ptrdiff_t panel, int at, bool hidden, ptrdiff_t plain) {
    const signed char* gates = hidden ? shape.info.recurrent_gate : shape.info.input_gate;
    for (int g = 0; g < shape.info.groups; ++g)
      if (gates[g] >= 0)
        per_unit(panel, vectors.column(shape.panels, 0) + at * columns + g * units, plain + gates[g] * H);
  };
  for (ptrdiff_t panel = 0; panel < shape.panels.count; ++panel) {
    for (int i = 0; i < vectors.peepholes; ++i) per_unit(panel, i * units, offsets.weight_peephole + i * H);
    if (!vectors.columns) continue;
    if (shape.info.has_cell) {
      per_unit(panel, vectors.cell_norm(shape.panels), offsets.weight_norm_c);
      per_unit(panel, vectors.cell_norm(shape.panels) + units, offsets.bias_norm_c);
    }
    per_column(panel, 0, false, offsets.weight_norm_ih);
    per_column(panel, 1, true, offsets.weight_norm_hh);
    if (!gradient || !shape.spec.bias) continue;
    per_column(panel, 2, false, offsets.bias_ih);
    per_column(panel, 2, true, offsets.bias_hh);
  }
}

template <class T>
const T* pack_unit_weights(const Shape<T>& shape, const RecurrentOffsets& offsets, const T* parameters, Arena& memory) {
  const ptrdiff_t size = shape.vectors.size(shape.panels) * shape.panels.count;
  if (!size) return nullptr;
  T* packed = zeros<T>(memory, size);
  for_unit_vectors(shape, offsets, false, [&](ptrdiff_t to, ptrdiff_t from) { packed[to] = parameters[from]; });
  return packed;
}

template <class T>
void add_unit_gradient(const Shape<T>& shape, const RecurrentOffsets& offsets, const T* packed, T* gradient) {
  if (packed)
    for_unit_vectors(shape, offsets, true, [&](ptrdiff_t from, ptrdiff_t to) { gradient[to] += packed[from]; });
}

template <class T>
void add_projection_gradient(const Shape<T>& shape, const RecurrentOffsets& offsets, const T* packed, T* gradient) {
  const ptrdiff_t H = shape.spec.hidden_size, width = shape.projection_width();
  for (ptrdiff_t from = 0; packed && from < shape.state_size; from += width)
    transpose<true>(gradient + offsets.weight_hr + from * H, H, packed + from * H, width, H,
                    std::min(width, shape.state_size - from));
}

}  // namespace recurra
