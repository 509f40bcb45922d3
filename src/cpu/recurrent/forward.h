// The forward of a stack on the CPU: layers in order, each over its directions and chunks of rows at once.
#pragma once
#include <algorithm>

#include "cpu/recurrent/forward_plan.h"

namespace recurra {

// Keeps c as it enters a stretch of the tape; the final state holds it at that moment.
template <class T>
void keep_c(const CpuTape<T>& tape, const Shape<T>& shape, const RecurrentForward<T>& call, ptrdiff_t layer,
            ptrdiff_t stretch) {
  if (!shape.info.has_cell) return;
  for (ptrdiff_t d = 0; d < shape.spec.directions; ++d) {
    const StateRows<T> c = shape.c_rows(call.final_state, layer, d);
    const StateRows<T> kept =
        tape.entering_c(shape, call.batch->rows, size_t(layer * shape.spec.directions + d), stretch);
    for (ptrdiff_t r = 0; r < call.batch->rows; ++r) std::copy_n(c.at(r), shape.spec.hidden_size, kept.at(r));
  }
}

// Runs the steps of a call one by one, with its hook between them; the final state carries h and c across.
// Only for cells without options: masks and norms would need the step's number.
template <class T>
void forward_by_step(const Shape<T>& shape, const ForwardCall<T>& call, StepHook<T>& hook) {
  const Rows& rows = call.rows;
  const int64_t start = 0;
  ForwardCall<T> c = call;
  c.rows.steps = c.end = 0;
  shape.cell.forward(c);  // rows without steps keep their state
  c.rows.steps = c.end = 1;
  c.rows.offset = &start;
  for (ptrdiff_t s = 0; s < rows.steps; ++s) {
    c.last = std::min<ptrdiff_t>(call.last, rows.active[s]);
    if (c.last <= c.first || (call.stop && call.stop->poll())) return;
    c.rows.active = rows.active + s;
    c.steps_before = s;
    c.x.data = call.x.at(0, s);
    c.y.data = call.y.at(0, s);
    if (call.saved) c.saved = call.saved + rows.offset[s] * shape.panels.padded() * shape.info.saved;
    if (call.cells) c.cells = call.cells + rows.offset[s] * shape.panels.padded();
    hook.before_step(c.first, c.last - c.first, s);
    shape.cell.forward(c);
    hook.after_step(c.first, c.last - c.first, s);
    c.h0 = {call.hn.data, call.hn.stride};
    c.c0 = {call.cn.data, call.cn.stride};
  }
}

template <class T>
class StackForward {
 public:
  // `tape` null: nothing is kept for a backward.
  StackForward(const Run& run, const RecurrentForward<T>& call, const CpuTape<T>* tape)
      : run_(run),
        call_(call),
        tape_(tape),
        rows_(tape ? tape->rows : sort_rows(*call.batch, run.arena)),
        plan_(*call.spec, *call.batch, rows_, run, call.spec->directions, !call.hook) {}

  void run() {
    Sequence<T> between[2];  // outputs of all layers but the last; without a tape two buffers take turns
    Sequence<const T> x = call_.x;
    for (ptrdiff_t layer = 0; layer < spec_.layers; ++layer) {
      const bool last = layer + 1 == spec_.layers;
      if (!last && (tape_ || layer < 2))
        between[layer % 2] = take(&CpuTape<T>::between, layer, plan_.shape.output_size);
      const Sequence<T> y = last ? call_.y : between[layer % 2];
      if (run_.training && spec_.input_dropout > 0)
        x = dropped(&CpuTape<T>::masked, layer, plan_.shape.input_size(layer), spec_.input_dropout,
                    kInputMask + uint64_t(layer * spec_.directions), true, x);
      if (!run_layer(layer, x, y)) return;
      x = read_only(y);
      if (!last && run_.training && spec_.dropout > 0)
        x = dropped(&CpuTape<T>::dropped, layer, plan_.shape.output_size, spec_.dropout, uint64_t(layer), false, x);
    }
  }

 private:
  typedef std::vector<Sequence<T>> CpuTape<T>::*Kept;

  // A sequence of the tape, or of this call where there is no tape.
  Sequence<T> take(Kept kept, ptrdiff_t layer, ptrdiff_t features) const {
    return tape_ ? (tape_->*kept)[size_t(layer)]
                 : take_sequence<T>(run_.arena, call_.batch->rows, rows_.steps, features);
  }

  Sequence<const T> dropped(Kept kept, ptrdiff_t layer, ptrdiff_t features, double rate, uint64_t stream, bool one_mask,
                            Sequence<const T> x) const {
    const Sequence<T> to = take(kept, layer, features);
    cpu_device<T>().dropout(run_, *call_.batch, features, rate, stream, one_mask, x, to);
    return read_only(to);
  }

  // False: the call was stopped.
  bool run_layer(ptrdiff_t layer, Sequence<const T> x, Sequence<T> y) const {
    const ptrdiff_t stretches = tape_ ? tape_->stretches.count() : 1;
    for (ptrdiff_t i = 0; i < stretches; ++i) {
      const ptrdiff_t begin = tape_ ? tape_->stretches.begin(i) : 0;
      while (!plan_.shape.info.has_cell && i + 2 < stretches) ++i;  // h is in y: no state to keep between stretches
      const ptrdiff_t end = tape_ ? tape_->stretches.end(i) : rows_.steps;
      if (stretches > 1 && begin == end) continue;
      run_stretch(layer, begin, end, tape_ && i + 1 == stretches, x, y);
      if (stretches > 1 && run_.stop) run_.stop->poll();  // a stretch may be too short to poll by itself
      if (run_.stopped()) return false;
      if (i + 1 < stretches) keep_c(*tape_, plan_.shape, call_, layer, i + 1);
    }
    return true;
  }

  // Steps [begin, end) of a layer; `recorded`: the tape keeps the values of this stretch.
  void run_stretch(ptrdiff_t layer, ptrdiff_t begin, ptrdiff_t end, bool recorded, Sequence<const T> x,
                   Sequence<T> y) const {
    const Shape<T>& shape = plan_.shape;
    plan_.run(run_.threads, [&](ptrdiff_t task, const Team& team) {
      const ptrdiff_t d = plan_.direction(task);
      const size_t index = plan_.index(layer, d);
      ForwardCall<T> c = plan_.call(layer, d, task, call_.state, call_.final_state);
      set_weights(c, *call_.weights, index);
      c.begin = begin;
      c.end = end;
      if (begin > 0) c.h0 = read_only(c.hn), c.c0 = read_only(c.cn);
      c.x = x;
      c.y = y;
      if (c.y.data) c.y.data += d * shape.state_size;
      if (recorded) set_tape(c, tape_->saved[index]);
      set_team(c, plan_, task, team, run_);
      if (call_.hook) return forward_by_step(shape, c, *call_.hook);
      shape.cell.forward(c);
    });
  }

  const Run& run_;
  const RecurrentForward<T>& call_;
  const CpuTape<T>* const tape_;
  const Rows rows_;
  const ForwardPlan<T> plan_;
  const RecurrentSpec& spec_ = *call_.spec;
};

}  // namespace recurra
