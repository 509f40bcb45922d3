#pragma once
#include "layers/scoring.h"

namespace recurra {

// Queries look at a memory, the second input: softmax over its valid steps, and their weighted sum.
template <class T>
class Attention final : public Layer<T> {
 public:
  explicit Attention(const ScoringOptions&);

  const char* kind() const override { return "attention"; }
  ptrdiff_t inputs() const override { return 2; }
  ptrdiff_t input_size() const override { return scoring_.query_size(); }
  ptrdiff_t memory_size() const { return scoring_.spec().memory_size; }
  ptrdiff_t other_size(ptrdiff_t) const override { return memory_size(); }
  ptrdiff_t output_size() const override { return memory_size(); }
  bool streamable() const override { return false; }
  double work() const override;

  void forward(const Run&, const LayerForward<T>&) override;
  // The same, with the weights (row, query step, memory step).
  void weights(const Run&, const LayerForward<T>&, Sequence<T> weights);
  std::unique_ptr<LayerTape<T>> record(const Run&, const LayerForward<T>&, Arena& memory) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Arena& memory) override;
  void commit(LayerTape<T>&, int threads) override;

 private:
  struct Packed;
  struct Tape;
  typedef typename Layer<T>::template Cached<Packed> Weights;
  Weights packed(bool backward);
  // `queries`: as in AttentionMemory; `weights` data null: they go to `arena`.
  void attend(const Run&, const LayerForward<T>&, const Packed&, ptrdiff_t queries, Sequence<T> weights, Attending<T>&,
              Arena& arena) const;

  Scoring<T> scoring_;
  Weights forward_, both_;
};

}  // namespace recurra
