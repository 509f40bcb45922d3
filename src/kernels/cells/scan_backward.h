// The backward loop of cells whose gates only the input feeds: the recurrence in reverse; the weights' gradient follows
// block by block as for every cell.
#pragma once
#include "kernels/cells/backward_scratch.h"
#include "kernels/cells/poll.h"
#include "kernels/cells/scan_unit.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class T>
ptrdiff_t scan_segments(const Panels& panels) {
  return (panels.count * ptrdiff_t(sizeof(Segment<T>)) + 63) / 64 * 64 / ptrdiff_t(sizeof(T));
}
template <class T>
ptrdiff_t scan_backward_scratch(const Panels& panels, const CellOptions<T>&, ptrdiff_t) {
  return scan_segments<T>(panels) + panels.padded();
}

template <class Cell, class T>
struct ScanBackward {
  typedef Vec<T> V;
  static constexpr CellInfo kCell = Cell::kInfo;

  const BackwardCall<T>& call;
  const ptrdiff_t units = call.panels.units, columns = call.panels.columns, panels = call.panels.count;

  ptrdiff_t batch(ptrdiff_t r) const { return call.rows.batch[r]; }
  ptrdiff_t time(ptrdiff_t r, ptrdiff_t s) const { return call.direction.time(call.rows, r, s); }
  ptrdiff_t active_at(ptrdiff_t s) const { return active_rows(call.rows, call.first, call.last, s); }
  T* gates(ptrdiff_t s, ptrdiff_t r, ptrdiff_t p) const {
    return call.gates + (p * call.ring_rows + call.slot[s] + r) * columns;
  }
  T* carry(ptrdiff_t r, ptrdiff_t p) const { return call.carry + (p * call.rows.active[0] + r) * units; }

  // The state that entered step s; null: zeros.
  const T* previous(ptrdiff_t r, ptrdiff_t s, bool cut) const {
    if (cut) return nullptr;
    if (s == call.tape_begin) return call.h0.data ? call.h0.at(batch(r)) : nullptr;
    return call.h.at(batch(r), time(r, s - 1));
  }

  void step(ptrdiff_t r, ptrdiff_t s) const {
    const bool cut = call.direction.cut(call.rows, r, s), fresh = s + 1 == call.rows.length[r];
    const T* h = previous(r, s, cut);
    const T* dy = call.dy.data ? call.dy.at(batch(r), time(r, s)) : nullptr;
    const T* later = fresh && call.dhn.data ? call.dhn.at(batch(r)) : nullptr;
    const ptrdiff_t at_row = call.rows.offset[s] - call.rows.offset[call.tape_begin] + r;
    const T* saved = call.saved + at_row * panels * kCell.saved * units;
    T* dh = call.gradient_norms.data ? call.scratch + scan_segments<T>(call.panels) : nullptr;
    for (ptrdiff_t p = 0; p < panels; ++p, saved += kCell.saved * units) {
      T *out = gates(s, r, p), *kept = carry(r, p);
      for (ptrdiff_t w = 0; w < units; w += kLanes<T>) {
        const ptrdiff_t u = p * units + w, left = call.hidden_size - u;
        ScanGradient<V> d;
        d.dh = fresh ? later ? load<V>(later + u, left) : V{} : load<V>(kept + w);
        if (dy) d.dh = d.dh + load<V>(dy + u, left);
        if (dh) store(dh + u, d.dh);
        d.h_previous = h ? load<V>(h + u, left) : V{};
        for (int k = 0; k < kCell.saved; ++k) d.saved[k] = load<V>(saved + k * units + w);
        Cell::backward(d);
        for (int g = 0; g < kCell.groups; ++g) store(out + g * units + w, d.pre[g]);
        store(kept + w, cut ? V{} : d.dh * d.a);
      }
    }
    if (dh) *call.gradient_norms.at(batch(r), time(r, s)) = norm_of(dh, call.hidden_size);
  }

  // The gradient that step 0 passes on is that of the initial state.
  void initial_gradient() const {
    for (ptrdiff_t r = call.first; r < call.last; ++r) {
      T* to = call.dh0.at(batch(r));
      const bool empty = call.rows.length[r] == 0;
      for (ptrdiff_t p = 0; p < panels; ++p) {
        const ptrdiff_t u = p * units, n = call.hidden_size - u < units ? call.hidden_size - u : units;
        if (!empty)
          copy_row(to + u, static_cast<const T*>(carry(r, p)), n);
        else if (call.dhn.data)
          copy_row(to + u, call.dhn.at(batch(r)) + u, n);
        else
          zero_row(to + u, n);
      }
    }
  }

  // dx of `count` steps of rows from a place in the ring on, `stride` ring rows apart; to(i): where the i-th goes.
  template <class To>
  void input_gradient(ptrdiff_t s, ptrdiff_t r, ptrdiff_t stride, ptrdiff_t count, const To& to) const {
    constexpr ptrdiff_t L = kLanes<T>;
    alignas(64) T out[kMaxRows * kTileVectors * L];
    Segment<T>* segments = reinterpret_cast<Segment<T>*>(call.scratch);
    const ColumnPanels inputs = {(call.input_size + L - 1) / L, kTileVectors};
    for (ptrdiff_t j = 0; j < inputs.count(); ++j) {
      const ptrdiff_t from = inputs.begin(j) * L, width = inputs.begin(j + 1) * L - from;
      for (ptrdiff_t p = 0; p < panels; ++p)
        segments[p] = {gates(s, r, p), stride * columns,
                       call.input_weights + from * panels * columns + p * columns * width, columns};
      const Tile<T> tile = {segments, panels, bytes_of<T>(width), nullptr, 0, out, width};
      const int nv = int(width / L);
      const Split tiles = split(count, max_rows(nv));
      for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
        multiply(tile, tiles.begin(i), tiles.size(i), nv);
        for (ptrdiff_t m = 0; m < tiles.size(i); ++m) {
          T* row = to(tiles.begin(i) + m) + from;
          for (ptrdiff_t k = 0; k < width && from + k < call.input_size; k += L) {
            const ptrdiff_t left = call.input_size - from - k;
            V v = load<V>(out + m * width + k);
            if (call.add_dx) v = load<V>(row + k, left) + v;
            store(row + k, v, left);
          }
        }
      }
    }
  }

  // Tiles are made of the rows of a step or of the steps of a row, whichever are more.
  void input_gradients() const {
    const auto dx = [&](ptrdiff_t r, ptrdiff_t s) { return call.dx.at(batch(r), time(r, s)); };
    if (active_at(call.begin) >= call.end - call.begin) {
      for (ptrdiff_t s = call.begin; s < call.end; ++s)
        input_gradient(s, call.first, 1, active_at(s), [&](ptrdiff_t i) { return dx(call.first + i, s); });
      return;
    }
    for (ptrdiff_t r = call.first; r < call.first + active_at(call.begin); ++r) {
      const ptrdiff_t end = call.rows.length[r] < call.end ? call.rows.length[r] : call.end;
      for (ptrdiff_t s = end - 1; s >= call.begin;) {  // stretches of steps that lie at a constant distance
        const ptrdiff_t stride = s > call.begin ? call.slot[s - 1] - call.slot[s] : 0;
        ptrdiff_t count = 1;
        while (s - count >= call.begin && call.slot[s - count] - call.slot[s - count + 1] == stride) ++count;
        input_gradient(s, r, stride, count, [&](ptrdiff_t i) { return dx(r, s - i); });
        s -= count;
      }
    }
  }

  void run() const {
    Poll poll = {call.stop, Poll::kInterval};
    for (ptrdiff_t s = call.end - 1; s >= call.begin; --s) {
      const ptrdiff_t active = active_at(s);
      for (ptrdiff_t r = call.first; r < call.first + active; ++r) step(r, s);
      pack_operand(
          call.operands[0], call.ring_rows, call.slot[s] + call.first, active,
          [&](ptrdiff_t r) { return call.x.at(batch(call.first + r), time(call.first + r, s)); }, call.input_size, true,
          int(columns / kLanes<T>));
      if (poll.stopped(active * panels * columns * call.input_size)) return;
    }
    if (call.input_weights) input_gradients();
    if (call.begin == 0 && call.dh0.data) initial_gradient();
  }
};

template <class Cell, class T>
void scan_backward(const BackwardCall<T>& call) {
  ScanBackward<Cell, T>{call}.run();
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
