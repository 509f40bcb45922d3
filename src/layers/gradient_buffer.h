// The destination of some parameters' gradient in a backward.
#pragma once
#include <optional>
#include <utility>

#include "layers/parameters.h"

namespace recurra {

// The parameters' own gradient, or a flat array of the caller's; if sparse, its non-zero rows are tracked.
template <class T>
class GradientBuffer {
 public:
  explicit GradientBuffer(std::shared_ptr<Parameters<T>> parameters)
      : parameters_(std::move(parameters)), gradient_(parameters_->gradient()) {}
  // data: [parameters->size()]; must outlive the buffer, and be zero if the parameters are sparse.
  GradientBuffer(std::shared_ptr<Parameters<T>> parameters, T* data)
      : parameters_(std::move(parameters)),
        chosen_(std::in_place, parameters_->device(), data, parameters_->size(), mutex_),
        gradient_(*chosen_) {
    if (const TouchedRows* rows = parameters_->touched())
      chosen_->make_sparse(parameters_->entries()[0].shape[0], rows->row_size());
  }

  const std::shared_ptr<Parameters<T>>& parameters() const { return parameters_; }
  Gradient<T>& gradient() const { return gradient_; }

 private:
  std::shared_ptr<Parameters<T>> parameters_;
  std::shared_mutex mutex_;
  std::optional<Gradient<T>> chosen_;
  Gradient<T>& gradient_;
};

// The buffers of a backward's gradients; a null pointer to it stands for the parameters' own.
template <class T>
using GradientBuffers = std::vector<GradientBuffer<T>*>;

// The destination of the gradient of `parameters`; null if there is no buffer for it.
template <class T>
Gradient<T>* find_gradient(const GradientBuffers<T>* buffers, Parameters<T>& parameters) {
  if (!buffers) return &parameters.gradient();
  for (const GradientBuffer<T>* buffer : *buffers)
    if (buffer->parameters().get() == &parameters) return &buffer->gradient();
  return nullptr;
}

}  // namespace recurra
