// A cell's equations over the rows and steps of a call. Cell::kInfo has the numbers of its columns (groups), of its
// vectors and of saved values, whether it has a c (has_cell) and whether it reads x as it is (reads_input).
#pragma once
#include "kernels/cells/scan_unit.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class V>
RECURRA_INLINE V load_or_zero(const Lane<V>* p, ptrdiff_t at, ptrdiff_t n) {
  return p ? load<V>(p + at, n) : V{};
}
// Lanes past the last unit become zeros: a gradient there would reach the inputs' if it were not finite.
template <class V>
RECURRA_INLINE V finite_lanes(V v, ptrdiff_t n) {
  if (n >= lanes<V>()) return v;
  Lane<V> buffer[lanes<V>()];
  store(static_cast<Lane<V>*>(buffer), v);
  return load<V>(buffer, n);
}

template <class Cell, class T>
void scan_rows(const ScanForwardCall<T>& call) {
  typedef Vec<T> V;
  for (ptrdiff_t r = 0; r < call.count; ++r) {
    const ScanRow<T>& row = call.rows[r];
    for (ptrdiff_t w = 0; w < call.units; w += kLanes<T>) {
      const ptrdiff_t u = call.first + w, left = call.left - w;
      ScanUnit<V> unit;
      unit.h = load_or_zero<V>(row.h, u, left);
      if constexpr (Cell::kInfo.has_cell) unit.c = load_or_zero<V>(row.c, u, left);
      RECURRA_UNROLL
      for (int k = 0; k < Cell::kInfo.vectors; ++k) unit.vector[k] = load<V>(call.vectors + k * call.units + w);
      for (ptrdiff_t s = 0; s < row.steps; ++s) {
        const T* pre = row.pre + s * call.pre_step + w;
        RECURRA_UNROLL
        for (int g = 0; g < Cell::kInfo.groups; ++g) unit.pre[g] = load<V>(pre + g * call.units);
        if constexpr (Cell::kInfo.reads_input) unit.x = load<V>(row.x + s * call.x_step + u, left);
        if (row.reset && (s > 0 || !call.keeps_first) && row.reset[s * call.reset_step]) {
          unit.h = V{};
          if constexpr (Cell::kInfo.has_cell) unit.c = V{};
        }
        Cell::forward(unit);
        if (row.y) store(row.y + s * call.y_step + u, unit.h, left);
        if (!call.saved) continue;
        const ptrdiff_t place = ptrdiff_t(call.offset[s] + row.place);
        T* saved = call.saved + place * call.saved_row + w;
        RECURRA_UNROLL
        for (int k = 0; k < Cell::kInfo.saved; ++k) store(saved + k * call.units, unit.saved[k]);
        if constexpr (Cell::kInfo.has_cell) store(call.cells + place * call.cells_row + w, unit.c);
      }
      store(row.h_out + u, unit.h, left);
      if constexpr (Cell::kInfo.has_cell) store(row.c_out + u, unit.c, left);
    }
  }
}

template <class Cell, class T>
void scan_gradients(const ScanBackwardCall<T>& call) {
  typedef Vec<T> V;
  for (ptrdiff_t r = 0; r < call.count; ++r) {
    const ScanGradientRow<T>& row = call.rows[r];
    for (ptrdiff_t p = 0; p < call.panels; ++p)
      for (ptrdiff_t w = 0; w < call.units; w += kLanes<T>) {
        const ptrdiff_t u = p * call.units + w, left = call.hidden_size - u;
        T *const carry = row.carry + p * call.carry_panel + w, *const gates = row.gates + p * call.gates_panel + w;
        const T* const saved = row.saved + p * Cell::kInfo.saved * call.units + w;
        ScanGradient<V> d;
        d.dh = row.fresh ? load_or_zero<V>(row.later, u, left) : load<V>(carry);
        if (row.product) d.dh = d.dh + load<V>(row.product + u);
        if (row.dy) d.dh = d.dh + load<V>(row.dy + u, left);
        if (row.dh) store(row.dh + u, d.dh);
        d.h_previous = load_or_zero<V>(row.h, u, left);
        if constexpr (Cell::kInfo.has_cell) {
          d.dc = row.fresh ? load_or_zero<V>(row.later_c, u, left) : load<V>(row.dc + p * call.carry_panel + w);
          d.c_previous = load_or_zero<V>(row.c, u, left);
          d.c = load<V>(row.c_new + u);
        }
        if constexpr (Cell::kInfo.reads_input) d.x = load<V>(row.x + u, left);
        RECURRA_UNROLL
        for (int k = 0; k < Cell::kInfo.vectors; ++k)
          d.vector[k] = load<V>(call.vectors + p * call.vectors_panel + k * call.units + w);
        RECURRA_UNROLL
        for (int k = 0; k < Cell::kInfo.saved; ++k) d.saved[k] = load<V>(saved + k * call.units);
        Cell::backward(d);
        RECURRA_UNROLL
        for (int g = 0; g < Cell::kInfo.groups; ++g) store(gates + call.column[g], finite_lanes(d.pre[g], left));
        store(carry, row.cut ? V{} : d.carry);
        if constexpr (Cell::kInfo.has_cell) store(row.dc + p * call.carry_panel + w, row.cut ? V{} : d.dc);
        RECURRA_UNROLL
        for (int k = 0; k < Cell::kInfo.vectors; ++k) {
          T* const sum = row.sums + p * call.sums_panel + k * call.units + w;
          store(sum, row.first_of_sum ? d.dvector[k] : load<V>(sum) + d.dvector[k]);
        }
        if constexpr (Cell::kInfo.reads_input)
          if (row.dx) store(row.dx + u, call.add_dx ? load<V>(row.dx + u, left) + d.dx : d.dx, left);
      }
  }
}

template <class Cell, class T>
constexpr ScanCell<T> kScanCell = {scan_rows<Cell, T>, scan_gradients<Cell, T>};

}  // namespace
}  // namespace recurra::RECURRA_ISA
