#include "layers/embedding.h"

#include <algorithm>

namespace recurra {
namespace {

constexpr ptrdiff_t kMostEmbeddings = 1 << 28, kMostFeatures = 1 << 20;

std::vector<ParameterSpec> parameter_specs(ptrdiff_t count, ptrdiff_t size) {
  check(count >= 1 && count <= kMostEmbeddings, "Embedding", "num_embeddings is ", count, ", expected 1 to ",
        kMostEmbeddings);
  check(size >= 1 && size <= kMostFeatures, "Embedding", "embedding_dim is ", size, ", expected 1 to ", kMostFeatures);
  return {{"weight", {count, size}}};
}

}  // namespace

// The gradient touches few rows of the table: the incoming gradient is kept and added at commit.
template <class T>
struct Embedding<T>::Tape : LayerTape<T> {
  Batch batch;
  Sequence<const int64_t> tokens;
  const T* gradient = nullptr;  // of the valid steps, in order of row and step; null: none has come
};

template <class T>
Embedding<T>::Embedding(ptrdiff_t num_embeddings, ptrdiff_t embedding_dim, bool sparse)
    : Layer<T>(parameter_specs(num_embeddings, embedding_dim)), count_(num_embeddings), size_(embedding_dim) {
  if (sparse) this->parameters()->make_sparse();
}

template <class T>
void Embedding<T>::forward(const Run&, const LayerForward<T>& call) {
  const ReadLock lock(this->parameters()->mutex());
  const T* table = this->parameters()->values();
  for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
    for (ptrdiff_t s = 0; s < call.batch.length(r); ++s)
      std::copy_n(table + *call.x.tokens.at(r, s) * size_, size_, call.y.at(r, s));
}

template <class T>
std::unique_ptr<LayerTape<T>> Embedding<T>::record(const Run& run, const LayerForward<T>& call, Arena&) {
  forward(run, call);
  return std::make_unique<Tape>();
}

template <class T>
void Embedding<T>::backward(const Run&, const LayerBackward<T>& call, LayerTape<T>& any_tape, Arena& memory) {
  auto& tape = static_cast<Tape&>(any_tape);
  tape.gradient = nullptr;
  if (!call.dy.data) return;
  T* kept = memory.take<T>(size_t(call.batch.tokens() * size_));
  tape.batch = call.batch;
  tape.tokens = call.x.tokens;
  tape.gradient = kept;
  for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
    for (ptrdiff_t s = 0; s < call.batch.length(r); ++s) kept = std::copy_n(call.dy.at(r, s), size_, kept);
}

template <class T>
void Embedding<T>::commit(LayerTape<T>& any_tape, int) {
  const auto& tape = static_cast<const Tape&>(any_tape);
  const T* from = tape.gradient;
  if (!from) return;
  TouchedRows* const touched = this->parameters()->touched();
  if (touched) touched->reserve(tape.batch.tokens());
  for (ptrdiff_t r = 0; r < tape.batch.rows; ++r)
    for (ptrdiff_t s = 0; s < tape.batch.length(r); ++s, from += size_) {
      const int64_t token = *tape.tokens.at(r, s);
      if (touched) touched->add(token);
      T* gradient = this->parameters()->grads() + token * size_;
      for (ptrdiff_t k = 0; k < size_; ++k) gradient[k] += from[k];
    }
}

template <class T>
void Embedding<T>::count_tape(const LayerForward<T>& call, Arena& count) const {
  count.take<T>(size_t(call.batch.tokens() * size_));
}

template class Embedding<float>;
template class Embedding<double>;

}  // namespace recurra
