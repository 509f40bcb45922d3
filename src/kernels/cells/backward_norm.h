// Layer norm backwards: of c, and of the two products that make the pre-activations.
#pragma once
#include "kernels/cells/backward_epilogue.h"
#include "kernels/cells/norm.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct BackwardNorm : BackwardEpilogue<Cell, T, paired, optional> {
  typedef BackwardEpilogue<Cell, T, paired, optional> Base;
  typedef typename Base::U U;
  using Base::Base, Base::kCell;
  using Base::call, Base::units, Base::columns, Base::panels, Base::hidden_size, Base::tape_from, Base::options;
  using Base::work, Base::step, Base::gates, Base::column, Base::tape_row, Base::previous_c, Base::unit_sums,
      Base::add_sum;

  // From dh, the gradient of h = o tanh(gain norm(c) + bias), to the gradients of o, in its place, and of c, in
  // of_norm.
  void normalise_cell_back(ptrdiff_t r, T* dh) const {
    const NormColumns where = {panels, units, units, hidden_size, {0, 1}};
    const ptrdiff_t size = options.vectors.size(call.panels), norm_at = options.vectors.cell_norm(call.panels);
    const U limit = broadcast<U>(options.clip);
    T* of_norm = work.of_norm + r * work.stride;
    const auto saved = [&](ptrdiff_t p, ptrdiff_t w, int k) {
      return load<U>(call.saved + (tape_row(step, p, r) * kCell.saved + k) * units + w);
    };
    const auto for_units = [&](const auto& f) {
      for (ptrdiff_t p = 0; p < panels; ++p)
        for (ptrdiff_t w = 0; w < units; w += lanes<U>()) f(p, w, p * units + w);
    };
    for_units([&](ptrdiff_t p, ptrdiff_t w, ptrdiff_t u) {
      const U c = fma(saved(p, w, 1), previous_c(p, w, r), saved(p, w, 0) * saved(p, w, 2));
      store(work.norm + u, min(limit, max(-limit, c)));
    });
    const T scale = normalise<U>(work.norm, where).scale;
    NormGradient<U> of_cell;
    for_units([&](ptrdiff_t p, ptrdiff_t w, ptrdiff_t u) {
      const T* gain = options.unit_weights + p * size + norm_at + w;
      T* sums = unit_sums(p, r) + norm_at + w;
      const U norm = load<U>(work.norm + u), o = saved(p, w, 3), d = load<U>(dh + u);
      const U t = activate<Tanh>(options.activations.output, fma(load<U>(gain), norm, load<U>(gain + units)));
      const U dt = d * o * derivative<Tanh>(options.activations.output, t);
      add_sum(sums, r, dt * norm);
      add_sum(sums + units, r, dt);
      of_cell.add(dt * load<U>(gain), norm);
      store(of_norm + u, dt * load<U>(gain));
      store(dh + u, d * t);
      if (options.projected) store(work.operand + r * work.stride + u, o * t);
    });
    of_cell.finish(scale, where.count());
    for_units([&](ptrdiff_t, ptrdiff_t, ptrdiff_t u) {
      store(of_norm + u, of_cell(load<U>(of_norm + u), load<U>(work.norm + u)));
    });
  }

  // From the gradients of the pre-activations, in the ring, to those of the two products before their norms.
  void normalise_gates_back(ptrdiff_t r) const {
    const ptrdiff_t width = panels * columns, size = options.vectors.size(call.panels);
    const ptrdiff_t at = options.vectors.column(call.panels, 0);
    const T* norms = call.norms + (call.rows.offset[step] - tape_from + call.first + r) * norm_row(call.panels);
    NormGradient<U> of_x, of_h;
    const auto for_columns = [&](const auto& f) {
      for (ptrdiff_t p = 0; p < panels; ++p)
        for (int g = 0; g < kCell.groups; ++g)
          for (ptrdiff_t w = 0; w < units; w += lanes<U>()) {
            const ptrdiff_t k = g * units + w;
            f(g, gates(step, p, r) + column(g, this->next_strip()) + w, options.unit_weights + p * size + at + k,
              norms + p * columns + k, unit_sums(p, r) + at + k);
          }
    };
    for_columns([&](int g, const T* gate, const T* gains, const T* norm, T* sums) {
      const U pre = load<U>(gate);
      if (has(kCell.input, g)) {
        of_x.add(pre * load<U>(gains), load<U>(norm));
        add_sum(sums, r, pre * load<U>(norm));
      }
      if (has(kCell.recurrent[0], g)) {
        of_h.add(pre * load<U>(gains + columns), load<U>(norm + width));
        add_sum(sums + columns, r, pre * load<U>(norm + width));
      }
      add_sum(sums + 2 * columns, r, pre);
    });
    of_x.finish(norms[2 * width], kCell.input.count * hidden_size);
    of_h.finish(norms[2 * width + 1], kCell.recurrent[0].count * hidden_size);
    for_columns([&](int g, T* gate, const T* gains, const T* norm, T*) {
      const U pre = load<U>(gate);
      if (has(kCell.input, g)) store(call.input_gates + (gate - call.gates), of_x(pre * load<U>(gains), load<U>(norm)));
      if (has(kCell.recurrent[0], g)) store(gate, of_h(pre * load<U>(gains + columns), load<U>(norm + width)));
    });
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
