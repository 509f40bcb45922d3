// The forward loop of cells that are called by their addresses (kernels/cells/scan_call.h): a product with the input
// for a block of steps, then the recurrence over it, panel by panel, while the pre-activations are in L1. One loop for
// all of them: what differs is a call for each panel of a block.
//
// The recurrence itself runs step after step: without a product it is a hundredth of the work, parallel over rows and
// channels, and has one order of rounding. A scan that is parallel over time would round differently for every way to
// cut it. Of a cell with a product of the state, a block is one step.
#pragma once
#include "kernels/cells/forward_scratch.h"
#include "kernels/cells/poll.h"

namespace recurra::RECURRA_ISA {
namespace {

// Rows of a product, in blocks that leave its result in L1: a multiple of every tile's height.
constexpr ptrdiff_t kScanRows = 96;

template <class T>
struct ScanScratch {
  ScanRow<T>* rows;  // [row]
  T* x;              // [row of the product][stride]
  T* pre;            // [row of the product][columns]
  T* c;              // [row][state_stride], for cells that have it
  T* h[2];           // [row][state_stride], of the previous step and of this one, if a product reads them
  ptrdiff_t stride, state_stride, size;

  static ScanScratch plan(const CellInfo& cell, const Panels& panels, ptrdiff_t input_size, ptrdiff_t rows,
                          ptrdiff_t steps, T* base) {
    const ptrdiff_t most = rows > kScanRows ? rows : kScanRows, count = rows * steps < most ? rows * steps : most;
    ScanScratch s = {};
    const auto take = [&](ptrdiff_t n) {
      T* const p = base ? base + s.size : nullptr;
      s.size += (n + 63) / 64 * 64;
      return p;
    };
    s.stride = work_stride<T>(input_size);
    s.state_stride = work_stride<T>(panels.padded());
    s.rows = reinterpret_cast<ScanRow<T>*>(take(rows * ptrdiff_t(sizeof(ScanRow<T>) / sizeof(T))));
    s.x = take(count * s.stride);
    s.pre = take(count * panels.columns);
    if (cell.has_cell) s.c = take(rows * s.state_stride);
    for (T*& h : s.h) h = cell.stages ? take(rows * s.state_stride) : nullptr;
    return s;
  }
};

template <class T>
ptrdiff_t scan_forward_scratch(const CellInfo& cell, const Panels& panels, const CellOptions<T>&, ptrdiff_t input_size,
                               ptrdiff_t rows, ptrdiff_t steps, const Caches&) {
  return ScanScratch<T>::plan(cell, panels, input_size, rows, steps, nullptr).size;
}

template <class T>
struct ScanForward {
  const ForwardCall<T>& call;
  const CellInfo& cell = *call.cell->info;
  const ptrdiff_t units = call.panels.units, columns = call.panels.columns, strips = call.panels.strips;
  const ScanScratch<T> work =
      ScanScratch<T>::plan(cell, call.panels, call.input_size, call.last - call.first, call.rows.steps, call.scratch);

  const int64_t tape_from = call.rows.offset[call.begin];

  ptrdiff_t batch(ptrdiff_t r) const { return call.rows.batch[r]; }
  ptrdiff_t block_end(ptrdiff_t r, ptrdiff_t end) const {
    return call.rows.length[r] < end ? call.rows.length[r] : end;
  }
  T* state(ptrdiff_t s, ptrdiff_t r) const { return work.h[s & 1] + (r - call.first) * work.state_stride; }

  // Copies x of steps [begin, end) row by row, for one constant stride, and says where the rows' steps are; returns how
  // many they are.
  ptrdiff_t gather(ptrdiff_t begin, ptrdiff_t end, ptrdiff_t active) const {
    ptrdiff_t count = 0;
    for (ptrdiff_t r = call.first; r < call.first + active; ++r) {
      const ptrdiff_t steps = block_end(r, end) - begin, time = call.direction.time(call.rows, r, begin);
      T* const hn = call.hn.at(batch(r));
      ScanRow<T>& row = work.rows[r - call.first];
      row = {.steps = steps,
             .pre = work.pre + count * columns,
             .x = work.x + count * work.stride,
             .h = hn,
             .c = cell.has_cell ? work.c + (r - call.first) * work.state_stride : nullptr,
             .h_out = hn,
             .c_out = cell.has_cell ? work.c + (r - call.first) * work.state_stride : nullptr,
             .y = call.y.data ? call.y.at(batch(r), time) : nullptr,
             .reset = call.rows.reset ? call.rows.reset + batch(r) * call.rows.reset_row +
                                            (time + call.direction.reverse) * call.rows.reset_step
                                      : nullptr,
             .place = r - tape_from};
      if (cell.stages) {
        row.h = state(begin, r);
        if (begin + 1 < block_end(r, call.end)) row.h_out = state(begin + 1, r);
        if (call.direction.cut(call.rows, r, begin)) zero_row(state(begin, r), call.panels.padded());
      }
      for (ptrdiff_t s = begin; s < begin + steps; ++s, ++count)
        copy_row(work.x + count * work.stride, call.x.at(batch(r), call.direction.time(call.rows, r, s)),
                 call.input_size);
    }
    return count;
  }

  // A part's columns of panel p from its operand's rows on, over what they hold: the biases, or the input's product.
  void multiply(int part, ptrdiff_t p, const T* from, ptrdiff_t stride, ptrdiff_t depth, ptrdiff_t count) const {
    const PackedWeights<T>& weights = *call.weights;
    const Range range = part ? cell.recurrent[0] : cell.input;
    const ptrdiff_t at = range.begin * units;
    const int nv = int(range.count * units / kLanes<T>);
    const Segment<T> segment = {from, stride, weights.panel(p) + weights.layout.offset[part], depth};
    Scales<T> room;
    const Scales<T>* scales = weights.scales_of(part, p * strips, at, room);
    const Split tiles = split(count, max_rows(nv));
    for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
      T* const out = work.pre + tiles.begin(i) * columns + at;
      Tile<T> tile = {&segment,
                      1,
                      weights.layout.row[part],
                      part ? out : weights.biases + p * columns + at,
                      part ? columns : 0,
                      out,
                      columns};
      tile.b_strip = strips > 1 ? weights.layout.strip : 0;
      tile.init_strip = tile.out_strip = columns / strips;
      tile.scales = scales;
      if (i == 0 && part == 0 && call.far()) tile.next = weights.panel(p + 1);
      recurra::RECURRA_ISA::multiply(weights.storage->tiles, tile, tiles.begin(i), tiles.size(i), nv);
    }
  }

  void run_panel(ptrdiff_t p, ptrdiff_t begin, ptrdiff_t active, ptrdiff_t count) const {
    multiply(0, p, work.x, work.stride, call.input_size, count);
    if (cell.stages) {
      const ptrdiff_t end = cell.input.count * units;  // columns that the input does not feed
      for (ptrdiff_t i = 0; i < count && end < columns; ++i) zero_row(work.pre + i * columns + end, columns - end);
      multiply(1, p, state(begin, call.first), work.state_stride, call.hidden_size, count);
    }
    const ptrdiff_t sign = call.direction.reverse ? -1 : 1;
    const ptrdiff_t saved_row = call.panels.count * cell.saved * units, cells_row = call.panels.padded();
    call.cell->scan.forward({.rows = work.rows,
                             .count = active,
                             .first = p * units,
                             .units = units,
                             .left = call.hidden_size - p * units,
                             .pre_step = columns,
                             .x_step = work.stride,
                             .y_step = sign * call.y.step_stride,
                             .reset_step = sign * call.rows.reset_step,
                             .keeps_first = call.direction.reverse && begin == 0,
                             .vectors = cell.vectors ? call.options.unit_weights + p * cell.vectors * units : nullptr,
                             .saved = call.saved ? call.saved + p * cell.saved * units : nullptr,
                             .cells = call.cells ? call.cells + p * units : nullptr,
                             .saved_row = saved_row,
                             .cells_row = cells_row,
                             .offset = call.rows.offset + begin});
  }

  // The units [from, from + here) of a state that begins or ends a call; null: zeros.
  static void copy_state(T* to, const T* state, ptrdiff_t from, ptrdiff_t here) {
    if (state)
      copy_row(to + from, state + from, here);
    else
      zero_row(to + from, here);
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
    const auto c_of = [&](ptrdiff_t r) { return work.c + (r - call.first) * work.state_stride; };
    for (ptrdiff_t r = call.first; r < call.first + running; ++r) {
      copy_state(call.hn.at(batch(r)), call.h0.data ? call.h0.at(batch(r)) : nullptr, from, here);
      if (cell.has_cell) copy_state(c_of(r), call.c0.data ? call.c0.at(batch(r)) : nullptr, from, here);
      if (cell.stages) copy_state(state(call.begin, r), call.hn.at(batch(r)), 0, call.hidden_size);
    }
    Poll poll = {call.stop, Poll::kInterval};
    for (ptrdiff_t begin = call.begin, end = 0; begin < call.end; begin = end) {
      const ptrdiff_t active = active_rows(call.rows, call.first, call.last, begin);
      if (!active) break;
      end = begin + (active < kScanRows && !cell.stages ? kScanRows / active : 1);
      end = end < call.end ? end : call.end;
      const ptrdiff_t count = gather(begin, end, active);
      for (ptrdiff_t p = first_panel; p < last_panel; ++p) {
        run_panel(p, begin, active, count);
        if (poll.stopped(count * columns * (call.input_size + (cell.stages ? call.hidden_size : 0)))) return;
      }
    }
    for (ptrdiff_t r = call.first; cell.has_cell && call.cn.data && r < call.first + running; ++r)
      copy_row(call.cn.at(batch(r)) + from, c_of(r) + from, here);
  }
};

template <class T>
void scan_forward(const ForwardCall<T>& call) {
  ScanForward<T>{call}.run();
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
