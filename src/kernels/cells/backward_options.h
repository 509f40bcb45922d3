// What options add to a step backwards, beside the equations: zoneout, the projection, the norm of c.
#pragma once
#include "kernels/cells/backward_norm.h"
#include "kernels/gemm/product.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct BackwardOptions : BackwardNorm<Cell, T, paired, optional> {
  typedef BackwardNorm<Cell, T, paired, optional> Base;
  typedef typename Base::U U;
  typedef typename Base::V V;
  using Base::Base, Base::kCell, Base::kLast;
  using Base::batch, Base::position, Base::of_state;
  using Base::call, Base::hidden_size, Base::rows, Base::options, Base::state_size, Base::work, Base::step;

  // Takes the gradient of h row by row back through zoneout, projection and the norm of c, and on to the equations.
  void optional_state_gradient(ptrdiff_t running, ptrdiff_t active) const {
    this->state_gradient(step, running, active,
                         [&](ptrdiff_t u0, ptrdiff_t tile_units, ptrdiff_t r0, int m, const T* tile, bool fresh) {
                           for (ptrdiff_t r = r0; r < r0 + m; ++r)
                             for (ptrdiff_t u = u0; u < u0 + tile_units && u < work.stride; u += lanes<U>()) {
                               U d = of_state(tile + (r - r0) * tile_units + (u - u0), r, u, fresh);
                               if (call.dy.data) d = d + load<U>(work.dy[r] + u, state_size - u);
                               store(work.dh + r * work.stride + u, d);
                             }
                         });
    for (ptrdiff_t r = 0; r < active; ++r) {
      const ptrdiff_t time = call.direction.time(call.rows, call.first + r, step);
      if (call.gradient_norms.data)
        *call.gradient_norms.at(batch(r), time) = norm_of(work.dh + r * work.stride, state_size);
      if (options.zone_h.rate > 0) zone_back(r, time);
      if (options.zone_c.random)
        zone_row(options.zone_c, batch(r), time, work.zone + r * call.panels.padded(), call.panels.padded());
    }
    T* made = work.dh;
    if (options.projected) {
      T* ring = call.projected + position(step, 0) * call.projected_row;
      for (ptrdiff_t r = 0; r < active; ++r)
        copy_row(ring + r * call.projected_row, work.dh + r * work.stride, state_size);
      made = work.made;
      product(ProductCall<T>{active, state_size, hidden_size, work.dh, work.stride, options.projection, nullptr, made,
                             work.stride});
    }
    if constexpr (kCell.has_cell)
      for (ptrdiff_t r = 0; options.normalised() && r < active; ++r)
        this->normalise_cell_back(r, made + r * work.stride);
    const ptrdiff_t padded = call.panels.padded();
    this->template epilogue<kLast>(0, padded, 0, running, made, work.stride, false);
    this->template epilogue<kLast>(0, padded, running, active - running, made + running * work.stride, work.stride,
                                   true);
  }

  // The gradient of the kept share bypasses the step; the rest is that of the new h.
  void zone_back(ptrdiff_t r, ptrdiff_t time) const {
    T* zone = work.zone + rows * call.panels.padded();
    if (options.zone_h.random) zone_row(options.zone_h, batch(r), time, zone, state_size);
    T* d = work.dh + r * work.stride;
    T* carry = call.zone_carry + (call.first + r) * call.projected_row;
    for (ptrdiff_t u = 0; u < state_size; u += kLanes<T>) {
      const ptrdiff_t n = state_size - u;
      const V whole = load<V>(d + u);
      const V past = whole * (options.zone_h.random ? load<V>(zone + u, n) : broadcast<V>(options.zone_h.rate));
      store(carry + u, past);
      store(d + u, whole - past);
    }
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
