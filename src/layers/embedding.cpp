#include "layers/embedding.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kMostEmbeddings = 1 << 28, kMostEmbeddingDim = 1 << 20;

std::vector<ParameterSpec> table_of(ptrdiff_t count, ptrdiff_t size) {
  check(count >= 1 && count <= kMostEmbeddings, "Embedding", "num_embeddings is ", count, ", expected 1 to ",
        kMostEmbeddings);
  check(size >= 1 && size <= kMostEmbeddingDim, "Embedding", "embedding_dim is ", size, ", expected 1 to ",
        kMostEmbeddingDim);
  return {{"weight", {count, size}}};
}

}  // namespace

// The gradient touches few rows of the table, so the incoming gradient is saved and added at commit.
template <class T>
struct Embedding<T>::Tape : LayerTape<T> {
  Batch batch;
  Sequence<const int64_t> tokens;
  const T* gradient = nullptr;  // of the valid steps, in order of row and step; null if there is none
};

template <class T>
Embedding<T>::Embedding(const Devices& devices, ptrdiff_t num_embeddings, ptrdiff_t embedding_dim, bool sparse)
    : Layer<T>(devices, table_of(num_embeddings, embedding_dim)), count_(num_embeddings), size_(embedding_dim) {
  if (sparse) this->parameters()->make_sparse();
}

template <class T>
void Embedding<T>::forward(const Run& run, const LayerForward<T>& call) {
  const ReadLock lock(this->parameters()->mutex());
  run.device<T>().look_up({&call.batch, size_, call.x.tokens}, this->parameters()->values(), call.y);
}

template <class T>
std::unique_ptr<LayerTape<T>> Embedding<T>::take_tape(const LayerForward<T>&, bool, Memory&) const {
  return std::make_unique<Tape>();
}

template <class T>
void Embedding<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& any_tape, Memory& memory) {
  auto& tape = static_cast<Tape&>(any_tape);
  tape.gradient = nullptr;
  if (!call.dy.data) return;
  T* kept = memory.device.take<T>(size_t(call.batch.tokens() * size_));
  tape.batch = call.batch;
  tape.tokens = call.x.tokens;
  tape.gradient = kept;
  run.device<T>().pack_valid(call.batch, size_, call.dy, kept);
}

template <class T>
void Embedding<T>::commit(LayerTape<T>& any_tape, Gradient<T>& to, int) {
  const auto& tape = static_cast<const Tape&>(any_tape);
  if (!tape.gradient) return;
  if (TouchedRows* const touched = to.touched()) {
    touched->reserve(tape.batch.tokens());
    for (ptrdiff_t r = 0; r < tape.batch.rows; ++r)
      for (ptrdiff_t s = 0; s < tape.batch.length(r); ++s) touched->add(*tape.tokens.at(r, s));
  }
  this->device().add_to_table({&tape.batch, size_, tape.tokens}, tape.gradient, to.data());
}

template <class T>
void Embedding<T>::count_gradient(const LayerForward<T>& call, Memory& count) const {
  count.device.take<T>(size_t(call.batch.tokens() * size_));
}

template class Embedding<float>;
template class Embedding<double>;

}  // namespace recurra
