// Single steps of a stack, whose kernel calls are set up once.
#pragma once
#include "cpu/recurrent/forward_plan.h"

namespace recurra {

template <class T>
class CpuStep final : public RecurrentStep<T> {
 public:
  CpuStep(const RecurrentSpec& spec, ptrdiff_t rows, const TwoStates<T>& states) : spec_(spec), plan_(make_plan(rows)) {
    for (int from : {0, 1}) {
      const StateRows<const T> state = {states[size_t(from)].data, states[size_t(from)].stride};
      for (ptrdiff_t layer = 0; layer < spec.layers; ++layer)
        for (ptrdiff_t task = 0; task < plan_.tasks; ++task) {
          calls_[from].push_back(plan_.call(layer, plan_.direction(task), task, state, states[size_t(1 - from)]));
          ForwardCall<T>& c = calls_[from].back();
          c.steps_before = from;
          // Scratch of its own, which keeps its plan; both states share it.
          c.scratch = from ? calls_[0][calls_[1].size() - 1].scratch
                           : memory_.template take<T>(size_t(plan_.scratch_size(rows)));
        }
    }
    if (spec.layers > 1)
      for (T*& y : between_) y = memory_.template take<T>(size_t(rows * plan_.shape.output_size));
  }

  void run(const RecurrentWeights<T>& weights, const StepCall<T>& call) override {
    if (calls_[0].empty()) return;  // no rows
    const T* x = call.x;
    ptrdiff_t x_row = call.x_row;
    size_t index = 0;
    for (ptrdiff_t layer = 0; layer < spec_.layers; ++layer) {
      const bool last = layer + 1 == spec_.layers;
      T* y = last ? call.y : between_[layer % 2];
      const ptrdiff_t y_row = last ? call.y_row : plan_.shape.output_size;
      for (ptrdiff_t d = 0; d < spec_.directions; ++d, ++index) {
        ForwardCall<T>& c = calls_[call.from][index];
        set_weights(c, weights, index);
        c.x.data = x;
        c.x.row_stride = x_row;
        c.y.data = y ? y + d * plan_.shape.state_size : nullptr;
        c.y.row_stride = y_row;
        c.rows.reset = call.reset;
        c.rows.reset_row = call.reset_row;
        plan_.shape.cell.forward(c);
        c.planned = true;
      }
      x = y;
      x_row = y_row;
    }
  }

 private:
  ForwardPlan<T> make_plan(ptrdiff_t rows) {
    const Batch batch = {rows, 1, nullptr, nullptr, 0, 0};
    return {spec_, batch, sort_rows(batch, memory_), 1, false, {}, memory_, spec_.directions};
  }

  const RecurrentSpec spec_;
  Arena memory_;
  const ForwardPlan<T> plan_;
  std::vector<ForwardCall<T>> calls_[2];  // from either state: [layer, direction]
  T* between_[2];                         // outputs of the layers but the last
};

}  // namespace recurra
