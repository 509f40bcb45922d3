// Single steps of a decoder, for searches. Part of attention_decoder.cpp.
#pragma once
#include "layers/attention_decoder_hooks.h"

namespace recurra {

// A step of all rows: a pass of one step, its cell prepared.
template <class T>
class AttentionDecoder<T>::Step final : public LayerStep<T> {
 public:
  Step(AttentionDecoder& layer, const Run& run, ptrdiff_t copies, const TwoStates<T>& states,
       const OtherInput<T>& memory, T* weights, Arena& arena)
      : layer_(layer),
        rows_(memory.batch.rows * copies),
        states_(states),
        packed_(layer.packed(false)),
        cell_weights_(layer.cell_weights(false, 1)),
        cell_(cpu_device<T>().prepare_step(layer.spec_, rows_, states)),
        hook_(layer, *packed_.value, pass_, {}, {}, nullptr) {
    const ptrdiff_t steps = memory.batch.steps;
    int32_t* order = arena.take<int32_t>(size_t(rows_));
    for (ptrdiff_t r = 0; r < rows_; ++r) order[r] = int32_t(r / copies);
    pass_.order = order;
    pass_.batch = {rows_, 1, nullptr, nullptr, 0, 0};
    layer.scoring_.prepare(run, packed_.value->scoring, memory, false, pass_.attending, arena);
    layer.take_arrays(pass_, arena);
    pass_.attending.call.weights = {weights, steps, steps};
  }

  void run(const LayerStepCall<T>& call) override {
    const ptrdiff_t H = layer_.spec_.hidden_size;
    const StateRows<T>&from = states_[size_t(call.from)], &to = states_[size_t(1 - call.from)];
    pass_.state = {from.data, from.stride};
    for (ptrdiff_t r = 0; r < rows_; ++r) {
      std::copy_n(call.x + r * call.x_row, layer_.input_size_, pass_.x.at(r, 0));
      std::copy_n(from.at(r), H, pass_.h.at(r, 0));
    }
    if (layer_.fed_size()) hook_.before_step(0, rows_, 0);
    StepCall<T> cell = call;
    cell.x = pass_.x.data;
    cell.x_row = pass_.x.row_stride;
    cell.y = pass_.h.at(0, 1);
    cell.y_row = pass_.h.row_stride;
    cell_->run(*cell_weights_.value, cell);
    hook_.after_step(0, rows_, 0);
    const Sequence<T> y = layer_.looks_first() ? pass_.h_after() : pass_.a;
    for (ptrdiff_t r = 0; r < rows_; ++r) {
      std::copy_n(y.at(r, 0), H, call.y + r * call.y_row);
      if (layer_.feeds_) std::copy_n(pass_.a.at(r, 0), H, to.at(r) + layer_.fed_state());
    }
  }

 private:
  const AttentionDecoder& layer_;
  const ptrdiff_t rows_;
  const TwoStates<T> states_;
  const Weights packed_;
  const CellWeights cell_weights_;
  std::unique_ptr<RecurrentStep<T>> cell_;
  Pass pass_;
  ForwardHook hook_;
};

}  // namespace recurra
