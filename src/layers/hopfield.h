#pragma once
#include "layers/layer.h"

namespace recurra {

struct HopfieldOptions {
  ptrdiff_t size;    // of a pattern
  double beta;       // inverse temperature
  ptrdiff_t steps;   // most of them
  double tolerance;  // a state that moves by no more is left as it is; 0: all steps are taken
};

// Retrieval from a modern continuous Hopfield network (Ramsauer et al. 2021, equation 3), whose stored patterns are the
// memory, the second input: s <- X^T softmax(beta X s), from the state that is the first input.
template <class T>
class Hopfield final : public Layer<T> {
 public:
  Hopfield(const Devices&, const HopfieldOptions&);

  const char* kind() const override { return "hopfield"; }
  ptrdiff_t inputs() const override { return 2; }
  ptrdiff_t input_size() const override { return options_.size; }
  ptrdiff_t other_size(ptrdiff_t) const override { return options_.size; }
  ptrdiff_t output_size() const override { return options_.size; }
  bool streamable() const override { return false; }
  double work() const override { return 0; }
  double work_per_memory_step() const override { return double(options_.steps * (2 * options_.size + 20)); }

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void record(const Run&, const LayerForward<T>&, LayerTape<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int) override {}

 private:
  struct Retrieval;
  struct Tape;
  void take(const LayerForward<T>&, bool backward, Retrieval&, Memory&) const;
  // States that may stop early go one by one.
  ptrdiff_t at_once(const Retrieval&) const;
  void retrieve(const Run&, const LayerForward<T>&, Retrieval&) const;

  HopfieldOptions options_;
  AttentionSpec spec_;
};

}  // namespace recurra
