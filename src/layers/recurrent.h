#pragma once
#include "layers/cell_activation.h"
#include "layers/layer.h"

namespace recurra {

struct RecurrentOptions {
  std::string cell;
  ptrdiff_t input_size = 0, hidden_size = 0, num_layers = 1;
  bool bias = true, bidirectional = false;
  double dropout = 0;
  bool return_sequences = true;
  // Options; see RecurrentSpec.
  ptrdiff_t proj_size = 0;
  bool peepholes = false, layer_norm = false;
  double input_dropout = 0, recurrent_dropout = 0, zoneout = 0, zoneout_cell = 0, cell_clip = 0;
  ActivationOption gate_activation, candidate_activation, output_activation;
  std::shared_ptr<const OwnCell> own = {};  // instead of `cell`
};

// The options as a device's spec, checked, and the stack's parameters, which come first in a layer. Also for layers
// that contain a stack.
RecurrentSpec recurrent_spec(const Devices&, const RecurrentOptions&);
std::vector<ParameterSpec> recurrent_parameters(const Devices&, const RecurrentSpec&);
template <class T>
std::vector<RecurrentOffsets> recurrent_offsets(const Devices&, const RecurrentSpec&, const Parameters<T>&);

// A stack of RNN, LSTM or GRU layers.
template <class T>
class Recurrent final : public Layer<T> {
 public:
  Recurrent(const Devices&, const RecurrentOptions&);

  const char* kind() const override;
  ptrdiff_t input_size() const override { return spec_.input_size; }
  ptrdiff_t output_size() const override { return spec_.directions * spec_.state_size(); }
  bool needs_sequences() const override { return true; }
  bool returns_sequences() const override { return return_sequences_; }
  bool streamable() const override { return spec_.directions == 1; }
  std::vector<StateSpec> states() const override;
  double work() const override;

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerStep<T>> prepare_step(ptrdiff_t rows, ptrdiff_t features) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void record(const Run&, const LayerForward<T>&, LayerTape<T>&) override;
  TapeBytes tape_bytes(const LayerForward<T>&, bool training) const override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

 private:
  struct Tape;
  class Step;
  typedef typename Layer<T>::template Cached<RecurrentWeights<T>> Weights;
  Weights weights(bool transposed, int threads);
  size_t own_tape_bytes(const Batch&) const;
  // The output of a layer without return_sequences: h of the last layer, both directions.
  void last_output(ptrdiff_t rows, StateRows<const T> final_state, T* y, ptrdiff_t y_row) const;

  RecurrentSpec spec_;
  bool return_sequences_;
  std::vector<RecurrentOffsets> offsets_;
  Weights forward_, transposed_;
};

}  // namespace recurra
