// How a backward reads its tape, stretch by stretch.
#pragma once
#include <algorithm>

#include "cpu/recurrent/forward_plan.h"

namespace recurra {

// Gives a backward the values of one stretch of its tape: as recorded, or recomputed.
template <class T>
class StretchReader {
 public:
  StretchReader(const Run& run, const RecurrentBackward<T>& call, const CpuTape<T>& tape)
      : run_(run), call_(call), tape_(tape) {
    if (tape.stretches.count() == 1) return;
    plan_ = std::make_unique<ForwardPlan<T>>(*call.spec, *call.batch, tape.rows, run, 1);
    for (T*& h : state_) h = run.arena.take<T>(size_t(call.batch->rows * call.spec->state_size()));
  }

  // Points `c` to the values of stretch i.
  void enter(ptrdiff_t layer, ptrdiff_t i, BackwardCall<T>& c) const {
    const Shape<T> shape = {*call_.spec};
    const ptrdiff_t d = c.direction.reverse, H = shape.state_size;
    const size_t index = size_t(layer * shape.spec.directions + d);
    c.tape_begin = tape_.stretches.begin(i);
    if (i == 0) {
      c.h0 = shape.h_rows(call_.state, layer, d);
      c.c0 = shape.c_rows(call_.state, layer, d);
    } else {
      for (ptrdiff_t r = 0; c.tape_begin < c.rows.steps && r < c.rows.active[c.tape_begin]; ++r) {
        const ptrdiff_t row = c.rows.batch[r];
        std::copy_n(c.h.at(row, c.direction.time(c.rows, r, c.tape_begin - 1)), H, state_[0] + row * H);
      }
      c.h0 = {state_[0], H};
      if (shape.info.has_cell) c.c0 = read_only(tape_.entering_c(shape, call_.batch->rows, index, i));
    }
    const bool recorded = tape_.stretches.recorded(i);
    const SavedValues<T>& values = recorded ? tape_.saved[index] : tape_.again;
    c.saved = values.saved;
    c.cells = values.cells;
    c.norms = values.norms;
    if (!recorded) make_again(layer, d, i, c);
  }

 private:
  void make_again(ptrdiff_t layer, ptrdiff_t d, ptrdiff_t i, const BackwardCall<T>& of) const {
    const size_t index = plan_->index(layer, d);
    plan_->run(run_.threads, [&](ptrdiff_t task, const Team& team) {
      ForwardCall<T> c = plan_->call(layer, d, task, {}, {});
      set_weights(c, *call_.forward_weights, index);
      c.begin = tape_.stretches.begin(i);
      c.end = tape_.stretches.end(i);
      c.h0 = of.h0;
      c.c0 = of.c0;
      c.hn = {state_[1], call_.spec->state_size()};
      c.x = of.x;
      set_tape(c, tape_.again);
      set_team(c, *plan_, task, team, run_);
      plan_->shape.cell.forward(c);
    });
  }

  const Run& run_;
  const RecurrentBackward<T>& call_;
  const CpuTape<T>& tape_;
  std::unique_ptr<ForwardPlan<T>> plan_;
  T* state_[2] = {};  // [row][state]: h entering a stretch, and h leaving it
};

}  // namespace recurra
