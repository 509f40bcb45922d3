// The one BPTT loop: a block of steps, last first. The product of the next step's gate gradients with W_hh is the
// gradient of this step's h, and the cell's derivative runs on its tile at once. The gate gradients stay in a ring in
// cache, which the gradients of the inputs and of the weights (kernels/cells/gradient.h) are computed from.
#pragma once
#include "kernels/cells/backward_options.h"
#include "kernels/cells/poll.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct Backward : BackwardOptions<Cell, T, paired, optional> {
  typedef BackwardOptions<Cell, T, paired, optional> Base;
  typedef typename Base::U U;
  using Base::Base, Base::kCell, Base::kLast;
  using Base::call, Base::units, Base::columns, Base::panels, Base::hidden_size, Base::rows, Base::options;
  using Base::state_size, Base::work, Base::step, Base::batch, Base::active_at, Base::carried, Base::of_state;

  // The stages before the last one, in reverse.
  template <int stage>
  void earlier_stages(ptrdiff_t active) const {
    if constexpr (stage >= 0) {
      this->gate_product(step, stage + 1, active,
                         [&](ptrdiff_t u0, ptrdiff_t tile_units, ptrdiff_t r0, int m, const T* tile, bool fresh) {
                           this->template epilogue<stage>(u0, tile_units, r0, m, tile, tile_units, fresh);
                         });
      earlier_stages<stage - 1>(active);
    }
  }

  // The gradient that step 0 passes on is that of the initial state.
  void initial_gradient() const {
    const ptrdiff_t active = active_at(0);
    for (ptrdiff_t r = 0; r < active; ++r) work.cut[r] = call.direction.cut(call.rows, call.first + r, 0);
    this->state_gradient(-1, active, rows,
                         [&](ptrdiff_t u0, ptrdiff_t tile_units, ptrdiff_t r0, int m, const T* tile, bool fresh) {
                           for (ptrdiff_t r = r0; r < r0 + m; ++r)
                             for (ptrdiff_t u = u0; u < u0 + tile_units && u < state_size; u += lanes<U>())
                               store(call.dh0.at(batch(r)) + u,
                                     of_state(tile + (r - r0) * tile_units + (u - u0), r, u, fresh), state_size - u);
                         });
    if constexpr (kCell.has_cell)
      for (ptrdiff_t r = 0; r < rows; ++r)
        for (ptrdiff_t u = 0; u < hidden_size; u += lanes<U>()) {
          const ptrdiff_t left = hidden_size - u;
          U dc = U{};
          if (r >= active && call.dcn.data) dc = load<U>(call.dcn.at(batch(r)) + u, left);
          if (r < active && !work.cut[r]) dc = load<U>(call.dc + carried(u / units, r) + u % units);
          store(call.dc0.at(batch(r)) + u, dc, left);
        }
  }

  void run() {
    Poll poll = {call.stop, Poll::kInterval};
    zero_row(work.zeros, call.panels.padded());
    if (optional && work.made) zero_row(work.made, rows * work.stride);  // padding units stay zero
    for (step = call.end - 1; step >= call.begin; --step) {
      const ptrdiff_t active = active_at(step);
      if (!active) continue;
      this->prepare_rows(active);
      if constexpr (optional) {
        this->optional_state_gradient(active_at(step + 1), active);
      } else {
        this->state_gradient(step, active_at(step + 1), active,
                             [&](ptrdiff_t u0, ptrdiff_t tile_units, ptrdiff_t r0, int m, const T* tile, bool fresh) {
                               this->template epilogue<kLast>(u0, tile_units, r0, m, tile, tile_units, fresh);
                             });
      }
      earlier_stages<kLast - 1>(active);
      if constexpr (optional)
        for (ptrdiff_t r = 0; options.normalised() && r < active; ++r) this->normalise_gates_back(r);
      this->pack_operands(active);
      if (poll.stopped(active * panels * columns * hidden_size)) return;
    }
    if (call.input_weights) this->input_gradient();
    if (call.begin == 0 && call.dh0.data) initial_gradient();
  }
};

template <class Cell, class T, bool optional>
void backward_of(const BackwardCall<T>& call) {
  if constexpr (has_half_panels(Cell::kInfo))
    if (call.panels.units < kLanes<T>) return Backward<Cell, T, true, optional>{call}.run();
  Backward<Cell, T, false, optional>{call}.run();
}
template <class Cell, class T>
void backward(const BackwardCall<T>& call) {
  call.options.any ? backward_of<Cell, T, true>(call) : backward_of<Cell, T, false>(call);
}

template <class T>
ptrdiff_t backward_scratch(const CellInfo& cell, const Panels& panels, const CellOptions<T>& options, ptrdiff_t rows) {
  return BackwardScratch<T>::plan(cell, panels, options, rows, nullptr).size;
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
