// The forward time loop of all cells: steps, each over stages, panels and tiles of rows.
#pragma once
#include "kernels/cells/forward_options.h"
#include "kernels/cells/forward_rows.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct Forward : ForwardRows<Cell, T, paired, optional> {
  typedef ForwardRows<Cell, T, paired, optional> Base;
  using Base::active, Base::ahead_end, Base::h_in, Base::h_out, Base::cells, Base::next, Base::batch, Base::input;
  using Base::active_at, Base::meet, Base::start, Base::finish, Base::drop_state;
  using Base::Base, Base::kCell, Base::kStrips;
  using Base::call, Base::units, Base::columns, Base::panels, Base::hidden_size, Base::input_size, Base::rows;
  using Base::options, Base::work, Base::state, Base::first_panel, Base::last_panel, Base::barrier, Base::step;

  // The input's product of steps [begin, end), to be computed.
  InputAhead<T> input_ahead(ptrdiff_t begin, ptrdiff_t end, T* out) const {
    ptrdiff_t n = 0;
    for (ptrdiff_t s = begin; s < end; ++s)
      for (ptrdiff_t r = 0, m = active_at(s); r < m; ++r)
        copy_row(work.x + n++ * work.input_stride, input(r, s), input_size);
    return {call, kCell.input, work.x, work.input_stride, out, n, first_panel * kStrips, last_panel * kStrips};
  }
  // Begins a block of steps: finishes its input product, part of which was computed beside the previous block, and sets
  // up the next block's.
  const T* begin_block() {
    const auto end_from = [&](ptrdiff_t s) {
      return s + work.ahead_steps < call.end ? s + work.ahead_steps : call.end;
    };
    ahead_end = end_from(step);
    if (!next.out()) next = input_ahead(step, ahead_end, work.ahead[0]);
    next.finish();
    const T* ahead = next.out();
    next = {};
    if (work.ahead[1] && ahead_end < call.end)
      next = input_ahead(ahead_end, end_from(ahead_end), work.ahead[ahead == work.ahead[0]]);
    return ahead;
  }

  void run() {
    if (!run_steps() && barrier) barrier->leave();
  }

  // Whether a single step of a single row can read and write the caller's states without copies of its own.
  bool works_in_place() const {
    return !optional && rows == 1 && call.end - call.begin == 1 && active_at(call.begin) == 1 && !call.rows.reset &&
           !barrier && hidden_size == panels * units && call.h0.data && call.hn.data && call.h0.data != call.hn.data &&
           (!kCell.has_cell || call.cn.data);
  }
  bool run_in_place(Poll& poll) {
    step = call.begin;
    active = 1;
    h_in = const_cast<T*>(call.h0.at(batch(0)));  // only drop_state() would write there
    h_out = call.hn.at(batch(0));
    if constexpr (kCell.has_cell) {
      cells = call.cn.at(batch(0));
      copy_row(cells, call.c0.at(batch(0)), hidden_size);
    }
    if (call.y.data) work.y[0] = call.y.at(batch(0), call.direction.time(call.rows, call.first, step));
    return this->template run_stage<0>(poll, input(0, step), work.input_stride, nullptr);
  }

  // False: the call was stopped.
  bool run_steps() {
    Poll poll = {call.stop, Poll::kInterval};
    if (works_in_place()) return run_in_place(poll);
    active = call.begin ? active_at(call.begin) : rows;
    h_out = state[call.begin & 1];
    start();
    if (!meet()) return false;
    const T* ahead = nullptr;
    for (step = call.begin; step < call.end; ++step) {
      const ptrdiff_t running = active_at(step);
      finish(running, active, h_out);
      active = running;
      if (!active) return true;
      h_in = state[step & 1];
      h_out = state[~step & 1];
      if (call.rows.reset) {
        for (ptrdiff_t r = 0; r < active; ++r)
          if (call.direction.cut(call.rows, call.first + r, step)) drop_state(r);
        if (!meet()) return false;
      }
      if (call.y.data)
        for (ptrdiff_t r = 0; r < active; ++r)
          work.y[r] = call.y.at(batch(r), call.direction.time(call.rows, call.first + r, step));
      const T* x = work.x;
      if (work.ahead[0]) {
        if (step == ahead_end) ahead = begin_block();
      } else if (active == 1) {
        x = input(0, step);
      } else {
        for (ptrdiff_t r = 0; r < active; ++r) copy_row(work.x + r * work.input_stride, input(r, step), input_size);
      }
      if constexpr (optional) {
        const ForwardOptions<T> extra = {call, work};
        extra.before(h_in, step, active);
        if (!(options.normalised() ? this->run_normalised(poll, x)
                                   : this->template run_stage<0>(poll, x, work.input_stride, ahead)))
          return false;
        extra.after(h_in, h_out, step, active);
      } else if (!this->template run_stage<0>(poll, x, work.input_stride, ahead)) {
        return false;
      }
      if (ahead) ahead += active * panels * columns;
    }
    finish(0, active, h_out);
    return true;
  }
};

template <class Cell, class T, bool optional>
void forward_of(const ForwardCall<T>& call) {
  if constexpr (has_half_panels(Cell::kInfo))
    if (call.panels.units < kLanes<T>) return Forward<Cell, T, true, optional>{call}.run();
  Forward<Cell, T, false, optional>{call}.run();
}
template <class Cell, class T>
void forward(const ForwardCall<T>& call) {
  call.options.any ? forward_of<Cell, T, true>(call) : forward_of<Cell, T, false>(call);
}

template <class T>
ptrdiff_t forward_scratch(const CellInfo& cell, const Panels& panels, const CellOptions<T>& options,
                          ptrdiff_t input_size, ptrdiff_t rows, ptrdiff_t steps, const Caches& caches) {
  return ForwardScratch<T>::plan(cell, panels, options, input_size, rows, steps, caches, false, nullptr).size;
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
