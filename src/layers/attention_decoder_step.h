// Single steps of a decoder, for searches. Part of attention_decoder.cpp.
#pragma once
#include "layers/attention_decoder_hooks.h"

namespace recurra {

// A step of all rows, the memory's rows times the copies: a pass of one step, with a prepared cell.
template <class T>
class AttentionDecoder<T>::Step final : public LayerStep<T> {
 public:
  Step(AttentionDecoder& layer, const Run& run, ptrdiff_t copies, const OtherInput<T>& memory, T* weights, Memory& kept)
      : layer_(layer),
        rows_(memory.batch.rows * copies),
        packed_(layer.packed(false)),
        cell_weights_(layer.cell_weights(false, 1)),
        cell_(layer.device().prepare_step(layer.spec_, rows_)),
        hook_(layer, *packed_.value, pass_, {}, {}, run) {
    const ptrdiff_t steps = memory.batch.steps;
    int32_t* order = kept.host.take<int32_t>(size_t(rows_));
    for (ptrdiff_t r = 0; r < rows_; ++r) order[r] = int32_t(r / copies);
    pass_.order = order;
    pass_.batch = {rows_, 1, nullptr, nullptr, 0, 0};
    layer.scoring_.take(layer.device(), memory, false, pass_.attending, kept.device);
    layer.scoring_.prepare(run, packed_.value->scoring, pass_.attending, kept.device);
    layer.take_arrays(pass_, kept.device);
    pass_.attending.call.weights = {weights, steps, steps};
  }

  void run(const LayerStepCall<T>& call) override {
    const ptrdiff_t H = layer_.spec_.hidden_size;
    pass_.state = call.state;
    const Device<T>& device = layer_.device();
    copy_rows<T>(device, rows_, layer_.input_size_, {call.x, call.x_row}, {pass_.x.data, pass_.x.row_stride});
    copy_rows<T>(device, rows_, H, call.state, {pass_.h.data, pass_.h.row_stride});
    if (layer_.fed_size()) hook_.before_step(0, rows_, 0);
    StepCall<T> cell = call;
    cell.x = pass_.x.data;
    cell.x_row = pass_.x.row_stride;
    cell.y = pass_.h.at(0, 1);
    cell.y_row = pass_.h.row_stride;
    cell_->run(*cell_weights_.value, cell);
    hook_.after_step(0, rows_, 0);
    const Sequence<T> y = layer_.looks_first() ? pass_.h_after() : pass_.a;
    copy_rows<T>(device, rows_, H, {y.data, y.row_stride}, {call.y, call.y_row});
    if (layer_.feeds_)
      copy_rows<T>(device, rows_, H, {pass_.a.data, pass_.a.row_stride},
                   {call.final_state.data + layer_.fed_state(), call.final_state.stride});
  }

 private:
  const AttentionDecoder& layer_;
  const ptrdiff_t rows_;
  const Weights packed_;
  const CellWeights cell_weights_;
  std::unique_ptr<RecurrentStep<T>> cell_;
  Pass pass_;
  ForwardHook hook_;
};

}  // namespace recurra
