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
  std::vector<std::pair<int64_t, const T*>> rows;  // token, its gradient, in order of row and step
};

template <class T>
Embedding<T>::Embedding(ptrdiff_t num_embeddings, ptrdiff_t embedding_dim)
    : Layer<T>(parameter_specs(num_embeddings, embedding_dim)), count_(num_embeddings), size_(embedding_dim) {}

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
  if (!call.dy.data) return;
  const ptrdiff_t tokens = call.batch.tokens();
  T* kept = memory.take<T>(size_t(tokens * size_));
  tape.rows.reserve(size_t(tokens));
  for (ptrdiff_t r = 0; r < call.batch.rows; ++r)
    for (ptrdiff_t s = 0; s < call.batch.length(r); ++s) {
      tape.rows.emplace_back(*call.x.tokens.at(r, s), kept);
      kept = std::copy_n(call.dy.at(r, s), size_, kept);
    }
}

template <class T>
void Embedding<T>::commit(LayerTape<T>& tape, int) {
  for (const auto& row : static_cast<Tape&>(tape).rows) {
    T* gradient = this->parameters()->grads() + row.first * size_;
    for (ptrdiff_t k = 0; k < size_; ++k) gradient[k] += row.second[k];
  }
}

template <class T>
void Embedding<T>::count_tape(const LayerForward<T>& call, Arena& count) const {
  count.take<T>(size_t(call.batch.tokens() * size_));
}

template class Embedding<float>;
template class Embedding<double>;

}  // namespace recurra
