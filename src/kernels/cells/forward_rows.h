// The states of rows on their way from the caller's arrays to the work buffers and back.
#pragma once
#include "kernels/cells/forward_step.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct ForwardRows : ForwardStep<Cell, T, paired, optional> {
  typedef ForwardStep<Cell, T, paired, optional> Base;
  using Base::Base, Base::kCell;
  using Base::call, Base::units, Base::hidden_size, Base::rows, Base::state_size, Base::work, Base::first_panel;
  using Base::last_panel, Base::active, Base::h_in, Base::h_out, Base::batch;

  // Calls f(panel, its first unit, units, padded units) for this member's panels; all at once for a single row, whose
  // panels are contiguous in every buffer.
  template <class F>
  RECURRA_INLINE void for_units(const F& f) const {
    const ptrdiff_t run = rows == 1 ? last_panel - first_panel : 1;
    for (ptrdiff_t p = first_panel; p < last_panel; p += run) {
      const ptrdiff_t u = p * units, padded = run * units, left = hidden_size - u;
      f(p, u, left < padded ? left : padded, padded);
    }
  }
  // How many of the units [u, u + n) h has, which a projection makes fewer.
  ptrdiff_t part_of_state(ptrdiff_t u, ptrdiff_t n) const {
    const ptrdiff_t left = state_size - u;
    return left < 0 ? 0 : left < n ? left : n;
  }
  // Copies the initial h and c, or zeros, into the work buffers.
  void start() const {
    for (ptrdiff_t r = 0; r < active; ++r) {
      for_units([&](ptrdiff_t p, ptrdiff_t u, ptrdiff_t n, ptrdiff_t padded) __attribute__((always_inline)) {
        T* h = h_out + r * work.hidden_stride + u;
        const ptrdiff_t m = optional ? part_of_state(u, n) : n;
        if (!call.h0.data || m < padded) zero_row(h, padded);
        if (call.h0.data) copy_row(h, call.h0.at(batch(r)) + u, m);
        if constexpr (kCell.has_cell) {
          T* c = work.c + (p * rows + r) * units;
          if (!call.c0.data || n < padded) zero_row(c, padded);
          if (call.c0.data) copy_row(c, call.c0.at(batch(r)) + u, n);
        }
      });
    }
  }

  // Copies h and c of rows that have ended to the final state.
  void finish(ptrdiff_t begin, ptrdiff_t end, const T* h) const {
    for (ptrdiff_t r = begin; r < end; ++r) {
      for_units([&](ptrdiff_t p, ptrdiff_t u, ptrdiff_t n, ptrdiff_t) __attribute__((always_inline)) {
        const ptrdiff_t m = optional ? part_of_state(u, n) : n;
        if (call.hn.data) copy_row(call.hn.at(batch(r)) + u, h + r * work.hidden_stride + u, m);
        if constexpr (kCell.has_cell)
          if (call.cn.data) copy_row(call.cn.at(batch(r)) + u, work.c + (p * rows + r) * units, n);
      });
    }
  }

  void drop_state(ptrdiff_t r) const {
    for (ptrdiff_t p = first_panel; p < last_panel; ++p) {
      zero_row(h_in + r * work.hidden_stride + p * units, units);
      if constexpr (kCell.has_cell) zero_row(work.c + (p * rows + r) * units, units);
    }
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
