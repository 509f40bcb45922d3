#pragma once
#include "layers/attending_layer.h"

namespace recurra {

struct AttentionDecoderOptions {
  std::string cell;  // as in RecurrentOptions
  ptrdiff_t input_size = 0, hidden_size = 0, memory_size = 0;
  std::string attention;         // a score, as in ScoringOptions
  ptrdiff_t attention_size = 0;  // for additive attention
  bool input_feeding = true;     // for the others
  bool bias = true;
};

// A recurrent layer that attends to a memory, its second input, at every step. h is the cell's output, m the memory.
//
//   additive (Bahdanau et al. 2015)              dot, scaled_dot, general (Luong et al. 2015)
//   c_t = attention(h_{t-1}, m)                  h_t = cell([x_t; a_{t-1}], h_{t-1})    if not fed, cell(x_t, ...)
//   h_t = cell([x_t; c_t], h_{t-1})              c_t = attention(h_t, m)
//   y_t = h_t                                    y_t = a_t = tanh(W_c [c_t; h_t])
//
// The state is h, for an LSTM c, and with input feeding a.
template <class T>
class AttentionDecoder final : public AttendingLayer<T> {
 public:
  AttentionDecoder(const Devices&, const AttentionDecoderOptions&);

  const char* kind() const override { return "attention_decoder"; }
  ptrdiff_t input_size() const override { return input_size_; }
  ptrdiff_t output_size() const override { return spec_.hidden_size; }
  bool needs_sequences() const override { return true; }
  std::vector<StateSpec> states() const override;
  double work() const override;

  void attend(const Run&, const LayerForward<T>&, Sequence<T> weights) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void record(const Run&, const LayerForward<T>&, LayerTape<T>&) override;
  TapeBytes tape_bytes(const LayerForward<T>&, bool training) const override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

  // Single steps with a fixed memory: rows [r * copies, (r + 1) * copies) attend to its row r. A step writes its
  // weights, (rows, memory steps), to `weights`. The prepared memory and the step's arrays live in `kept`.
  std::unique_ptr<LayerStep<T>> prepare_search(const Run&, ptrdiff_t copies, const OtherInput<T>& memory, T* weights,
                                               Memory& kept);

 private:
  using AttendingLayer<T>::scoring_;

  struct Packed;
  struct Pass;
  struct Tape;
  class ForwardHook;
  class BackwardHook;
  class Step;
  typedef typename Layer<T>::template Cached<Packed> Weights;
  typedef typename Layer<T>::template Cached<RecurrentWeights<T>> CellWeights;
  Weights packed(bool backward);
  CellWeights cell_weights(bool transposed, int threads);
  ptrdiff_t fed_size() const { return spec_.input_size - input_size_; }  // what attention adds to x
  bool looks_first() const { return scoring_.spec().additive; }
  ptrdiff_t fed_state() const { return this->state_size() - spec_.hidden_size; }  // offset of a in a row of the state
  template <class F>
  void run_pass(const Run&, const LayerForward<T>&, const Packed&, Pass&, const F& run_cell);
  void take_arrays(Pass&, Arena&) const;  // for the pass's batch, all but the weights
  void take(const LayerForward<T>&, bool backward, Pass&, Arena& arena, Arena& host) const;
  void begin(const Run&, const LayerForward<T>&, const Packed&, Pass&) const;
  // The cell's call over a pass, but for its weights and its hook.
  RecurrentForward<T> cell_call(const Pass&) const;
  void end(const LayerForward<T>&, const Pass&) const;

  ptrdiff_t input_size_;
  bool feeds_;
  RecurrentSpec spec_;
  std::vector<RecurrentOffsets> offsets_;
  ptrdiff_t cell_end_ = 0;        // end of the cell's parameters
  ptrdiff_t weight_combine_ = 0;  // W_c
  Weights forward_, both_;
  CellWeights cell_forward_, cell_transposed_;
};

}  // namespace recurra
