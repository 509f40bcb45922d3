// Single steps of a stack, whose kernel calls are set up once.
#pragma once
#include "cpu/recurrent/forward_plan.h"

namespace recurra {

template <class T>
class CpuStep final : public RecurrentStep<T> {
 public:
  CpuStep(const RecurrentSpec& spec, ptrdiff_t rows) : spec_(spec), plan_(make_plan(rows)) {
    for (ptrdiff_t layer = 0; layer < spec.layers; ++layer)
      for (ptrdiff_t task = 0; task < plan_.tasks; ++task) {
        const ptrdiff_t d = plan_.direction(task);
        calls_.push_back({plan_.call(layer, d, task, {}, {}), plan_.shape.h_offset(layer, d),
                          plan_.shape.info.has_cell ? plan_.shape.c_offset(layer, d) : -1});
        // Scratch of its own, which keeps its plan. That of fewer rows is smaller.
        calls_.back().call.scratch = memory_.template take<T>(size_t(plan_.scratch_size(rows)));
      }
    if (spec.layers > 1)
      for (T*& y : between_) y = memory_.template take<T>(size_t(rows * plan_.shape.output_size));
  }

  void run(const RecurrentWeights<T>& weights, const StepCall<T>& call) override {
    if (!call.rows) return;
    const T* x = call.x;
    ptrdiff_t x_row = call.x_row;
    size_t index = 0;
    ++steps_;
    for (ptrdiff_t layer = 0; layer < spec_.layers; ++layer) {
      const bool last = layer + 1 == spec_.layers;
      T* y = last ? call.y : between_[layer % 2];
      const ptrdiff_t y_row = last ? call.y_row : plan_.shape.output_size;
      for (ptrdiff_t d = 0; d < spec_.directions; ++d, ++index) {
        ForwardCall<T>& c = set_call(calls_[index], call);
        set_weights(c, weights, index);
        c.x.data = x;
        c.x.row_stride = x_row;
        c.y.data = y ? y + d * plan_.shape.state_size : nullptr;
        c.y.row_stride = y_row;
        plan_.shape.cell.forward(c);
        c.planned = true;
      }
      x = y;
      x_row = y_row;
    }
  }

 private:
  // Of a layer and direction; where its h and c lie in a row of the state, c -1 if there is none.
  struct Prepared {
    ForwardCall<T> call;
    ptrdiff_t h, c;
  };

  ForwardPlan<T> make_plan(ptrdiff_t rows) {
    const Batch batch = {rows, 1, nullptr, nullptr, 0, 0};
    return {spec_, batch, sort_rows(batch, memory_), 1, false, {}, memory_, spec_.directions};
  }

  ForwardCall<T>& set_call(Prepared& prepared, const StepCall<T>& call) const {
    ForwardCall<T>& c = prepared.call;
    if (c.last != call.rows) {
      c.last = call.rows;
      c.planned = false;
    }
    c.steps_before = steps_;
    c.h0 = {call.state.data + prepared.h, call.state.stride};
    c.hn = {call.final_state.data + prepared.h, call.final_state.stride};
    if (prepared.c >= 0) {
      c.c0 = {call.state.data + prepared.c, call.state.stride};
      c.cn = {call.final_state.data + prepared.c, call.final_state.stride};
    }
    c.rows.reset = call.reset;
    c.rows.reset_row = call.reset_row;
    return c;
  }

  const RecurrentSpec spec_;
  Arena memory_;
  const ForwardPlan<T> plan_;
  std::vector<Prepared> calls_;  // [layer, direction]
  T* between_[2];                // outputs of the layers but the last
  ptrdiff_t steps_ = 0;
};

}  // namespace recurra
