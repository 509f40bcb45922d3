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
  std::unique_ptr<LayerTape<T>> record(const Run&, const LayerForward<T>&, Memory& memory) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

 protected:
  void count_tape(const LayerForward<T>&, Memory& count) const override;

 private:
  Attention(const Devices&, const Scoring<T>&);

  struct Packed;
  struct Tape;
  typedef typename Layer<T>::template Cached<Packed> Weights;
  Weights packed(bool backward);
  // `backward`: as in AttentionInput. If weights.data is null, the weights are taken from `arena`.
  void look(const Run&, const LayerForward<T>&, const Packed&, bool backward, Sequence<T> weights, Attending<T>&,
            Arena& arena) const;

  using AttendingLayer<T>::scoring_;
  Weights forward_, both_;
};

}  // namespace recurra
