#pragma once
#include "layers/attending_layer.h"

namespace recurra {

// Attention of queries to a memory, the second input: the sum of its valid steps, weighted by a softmax.
template <class T>
class Attention final : public AttendingLayer<T> {
 public:
  Attention(const Devices&, const ScoringOptions&);

  const char* kind() const override { return "attention"; }
  ptrdiff_t input_size() const override { return this->scoring_.query_size(); }
  ptrdiff_t output_size() const override { return this->memory_size(); }
  double work() const override;

  void attend(const Run&, const LayerForward<T>&, Sequence<T> weights) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void record(const Run&, const LayerForward<T>&, LayerTape<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

 private:
  Attention(const Devices&, const Scoring<T>&);

  struct Packed;
  struct Tape;
  typedef typename Layer<T>::template Cached<Packed> Weights;
  Weights packed(bool backward);
  // Takes the arrays of a call. `backward`: as in AttentionInput. If weights.data is null, they are taken from `arena`.
  void take(const LayerForward<T>&, bool backward, Sequence<T> weights, Attending<T>&, Arena& arena) const;
  void look(const Run&, const LayerForward<T>&, const Packed&, Attending<T>&) const;

  using AttendingLayer<T>::scoring_;
  Weights forward_, both_;
};

}  // namespace recurra
