// The forward loop of cells whose gates only the input feeds: a product for a block of steps, then the recurrence
// h' = a h + b over it, panel by panel, while the pre-activations are in L1.
//
// The recurrence itself runs step after step: it is a hundredth of the product's work, parallel over rows and channels,
// and has one order of rounding. A scan that is parallel over time would round differently for every way to cut it.
#pragma once
#include "kernels/cells/forward_scratch.h"
#include "kernels/cells/poll.h"
#include "kernels/cells/scan_unit.h"

namespace recurra::RECURRA_ISA {
namespace {

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
                               ptrdiff_t steps, const Caches&) {
  return ScanScratch<T>::plan(panels, input_size, rows, steps, nullptr).size;
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

  void multiply_panel(ptrdiff_t p, ptrdiff_t count) const {
    const PackedWeights<T>& weights = *call.weights;
    const int nv = int(columns / kLanes<T>);
    const Segment<T> segment = {work.x, work.stride, weights.panel(p), call.input_size};
    Scales<T> room;
    const Scales<T>* scales = weights.scales_of(0, p, 0, room);
    const Split tiles = split(count, max_rows(nv));
    for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
      Tile<T> tile = {
          &segment, 1, weights.layout.row[0], weights.biases + p * columns, 0, work.pre + tiles.begin(i) * columns,
          columns};
      tile.scales = scales;
      if (i == 0 && call.far()) tile.next = weights.panel(p + 1);
      multiply(weights.storage->tiles, tile, tiles.begin(i), tiles.size(i), nv);
    }
  }

  void scan_panel(ptrdiff_t p, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t active) const {
    const T* pre = work.pre;
    for (ptrdiff_t r = call.first; r < call.first + active; ++r) {
      const ptrdiff_t row_end = block_end(r, end);
      for (ptrdiff_t w = 0; w < units; w += kLanes<T>) {
        const ptrdiff_t u = p * units + w, left = call.hidden_size - u;
        T* state = call.hn.at(batch(r)) + u;
        V h = load<V>(state, left);  // the padding lanes stay finite: all their weights are 0
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

  // The members of a team take their own panels and never wait for each other.
  void run() const {
    const ptrdiff_t members = call.team.barrier ? call.team.members : 1;
    const ptrdiff_t first_panel = call.panels.count * call.team.member / members,
                    last_panel = call.panels.count * (call.team.member + 1) / members;
    const ptrdiff_t from = first_panel * units;
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
        multiply_panel(p, count);
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

}  // namespace
}  // namespace recurra::RECURRA_ISA
