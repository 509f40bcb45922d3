// The loops of cells whose gates the input alone feeds: h' = a h + b with a and b known for all steps ahead. Forwards,
// a product for a block of steps and then the recurrence over it, panel by panel, while the pre-activations are in L1.
// Backwards, the recurrence in reverse; the weights' gradient follows block by block as for every cell.
//
// The recurrence itself runs step after step: it is a hundredth of the product's work, parallel over rows and channels,
// and has one order of rounding. A scan that is parallel over time would round differently for every way to cut it.
#pragma once
#include "kernels/cells/backward.h"

namespace recurra::RECURRA_ISA {
namespace {

// What such a cell's equations see: forwards, forward() turns pre-activations into the two coefficients.
template <class V>
struct ScanUnit {
  V pre[4];    // in
  V a, b;      // out: h' = a h + b
  V saved[4];  // out: what BPTT needs
};

// Backwards, backward() turns the gradient of h' into those of the pre-activations.
template <class V>
struct ScanGradient {
  V dh, h_previous, saved[4];  // in
  V pre[4];                    // out
  V a;                         // out: the coefficient again
};

// Rows of a product, in blocks that leave its result in L1: a multiple of every tile's height.
constexpr ptrdiff_t kScanRows = 96;

template <class T>
struct ScanScratch {
  T* x;    // [row of the product][stride]
  T* pre;  // [row of the product][columns]
  ptrdiff_t stride, size;

  static ScanScratch plan(const Panels& panels, ptrdiff_t input_size, ptrdiff_t rows, ptrdiff_t steps, T* base) {
    const ptrdiff_t most = rows > kScanRows ? rows : kScanRows, count = rows * steps < most ? rows * steps : most;
    const ptrdiff_t stride = work_stride<T>(input_size), x_size = (count * stride + 63) / 64 * 64;
    return {base, base ? base + x_size : nullptr, stride, x_size + count * panels.columns};
  }
};

template <class T>
ptrdiff_t scan_forward_scratch(const Panels& panels, const CellOptions<T>&, ptrdiff_t input_size, ptrdiff_t rows,
                               ptrdiff_t steps) {
  return ScanScratch<T>::plan(panels, input_size, rows, steps, nullptr).size;
}

// How many of the rows from `first` up to `last` have a step s.
RECURRA_INLINE ptrdiff_t active_rows(const Rows& rows, ptrdiff_t first, ptrdiff_t last, ptrdiff_t s) {
  const ptrdiff_t active = s < rows.steps ? rows.active[s] : 0;
  return active < first ? 0 : (active < last ? active : last) - first;
}

template <class Cell, class T>
struct ScanForward {
  typedef Vec<T> V;
  static constexpr CellInfo kCell = Cell::kInfo;

  const ForwardCall<T>& call;
  const ptrdiff_t units = call.panels.units, columns = call.panels.columns;
  const ScanScratch<T> work =
      ScanScratch<T>::plan(call.panels, call.input_size, call.last - call.first, call.rows.steps, call.scratch);

  const int64_t tape_from = call.rows.offset[call.begin];

  ptrdiff_t batch(ptrdiff_t r) const { return call.rows.batch[r]; }
  ptrdiff_t block_end(ptrdiff_t r, ptrdiff_t end) const {
    return call.rows.length[r] < end ? call.rows.length[r] : end;
  }

  // Copies x of steps [begin, end) row by row, for one constant stride; returns how many.
  ptrdiff_t gather(ptrdiff_t begin, ptrdiff_t end, ptrdiff_t active) const {
    T* to = work.x;
    for (ptrdiff_t r = call.first; r < call.first + active; ++r)
      for (ptrdiff_t s = begin; s < block_end(r, end); ++s, to += work.stride)
        copy_row(to, call.x.at(batch(r), call.direction.time(call.rows, r, s)), call.input_size);
    return (to - work.x) / work.stride;
  }

  void multiply_panel(const T* weights, ptrdiff_t count) const {
    const int nv = int(columns / kLanes<T>);
    const Segment<T> segment = {work.x, work.stride, weights + columns, call.input_size};
    const Split tiles = split(count, max_rows(nv));
    for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
      const Tile<T> tile = {&segment, 1, columns, weights, 0, work.pre + tiles.begin(i) * columns, columns};
      multiply(tile, tiles.begin(i), tiles.size(i), nv);
    }
  }

  void scan_panel(ptrdiff_t p, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t active) const {
    const T* pre = work.pre;
    for (ptrdiff_t r = call.first; r < call.first + active; ++r) {
      const ptrdiff_t row_end = block_end(r, end);
      for (ptrdiff_t w = 0; w < units; w += kLanes<T>) {
        const ptrdiff_t u = p * units + w, left = call.hidden_size - u;
        T* state = call.hn.at(batch(r)) + u;
        V h = load<V>(state, left);  // in the lanes past H all weights are 0, and so everything stays finite
        for (ptrdiff_t s = begin; s < row_end; ++s) {
          ScanUnit<V> unit;
          for (int g = 0; g < kCell.groups; ++g) unit.pre[g] = load<V>(pre + (s - begin) * columns + g * units + w);
          Cell::forward(unit);
          if (call.rows.reset && call.direction.cut(call.rows, r, s)) h = V{};
          h = fma(unit.a, h, unit.b);
          if (call.y.data) store(call.y.at(batch(r), call.direction.time(call.rows, r, s)) + u, h, left);
          if (call.saved) {
            const ptrdiff_t at_row = call.rows.offset[s] - tape_from + r;
            T* saved = call.saved + (at_row * call.panels.count + p) * kCell.saved * units + w;
            for (int k = 0; k < kCell.saved; ++k) store(saved + k * units, unit.saved[k]);
          }
        }
        store(state, h, left);
      }
      pre += (row_end - begin) * columns;
    }
  }

  // A team's members take panels of their own and never wait for each other.
  void run() const {
    const ptrdiff_t members = call.team.barrier ? call.team.members : 1;
    const ptrdiff_t first_panel = call.panels.count * call.team.member / members,
                    last_panel = call.panels.count * (call.team.member + 1) / members;
    const ptrdiff_t panel_size = call.layout.panel, from = first_panel * units;
    const ptrdiff_t here = (last_panel * units < call.hidden_size ? last_panel * units : call.hidden_size) - from;
    const ptrdiff_t running =
        call.begin ? active_rows(call.rows, call.first, call.last, call.begin) : call.last - call.first;
    for (ptrdiff_t r = call.first; r < call.first + running; ++r) {
      if (call.h0.data)
        copy_row(call.hn.at(batch(r)) + from, call.h0.at(batch(r)) + from, here);
      else
        zero_row(call.hn.at(batch(r)) + from, here);
    }
    Poll poll = {call.stop, Poll::kInterval};
    for (ptrdiff_t begin = call.begin, end = 0; begin < call.end; begin = end) {
      const ptrdiff_t active = active_rows(call.rows, call.first, call.last, begin);
      if (!active) return;
      end = begin + (active < kScanRows ? kScanRows / active : 1);
      end = end < call.end ? end : call.end;
      const ptrdiff_t count = gather(begin, end, active);
      for (ptrdiff_t p = first_panel; p < last_panel; ++p) {
        multiply_panel(call.weights + p * panel_size, count);
        scan_panel(p, begin, end, active);
        if (poll.stopped(count * columns * call.input_size)) return;
      }
    }
  }
};

template <class Cell, class T>
void scan_forward(const ForwardCall<T>& call) {
  ScanForward<Cell, T>{call}.run();
}

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

  // What is left over after step 0 belongs to the initial state.
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
      const Tile<T> tile = {segments, panels, width, nullptr, 0, out, width};
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
