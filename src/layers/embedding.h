#pragma once
#include "layers/layer.h"

namespace recurra {

// y = the token's row of the table.
template <class T>
class Embedding final : public Layer<T> {
 public:
  // `sparse`: the rows with a gradient are tracked, and other rows are never touched.
  Embedding(const Devices&, ptrdiff_t num_embeddings, ptrdiff_t embedding_dim, bool sparse = false);

  const char* kind() const override { return "embedding"; }
  bool takes_tokens() const override { return true; }
  ptrdiff_t input_size() const override { return count_; }
  ptrdiff_t output_size() const override { return size_; }
  double work() const override { return double(size_); }

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

 protected:
  void count_gradient(const LayerForward<T>&, Memory& count) const override;

 private:
  struct Tape;
  ptrdiff_t count_, size_;
};

}  // namespace recurra
