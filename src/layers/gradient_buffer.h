// Where a backward's gradient of some parameters goes.
#pragma once
#include <optional>
#include <utility>

#include "layers/parameters.h"

namespace recurra {

// Their own, or a flat array that the caller chose, whose rows that are not zero are known if it is sparse.
template <class T>
class GradientBuffer {
 public:
  explicit GradientBuffer(std::shared_ptr<Parameters<T>> parameters)
      : parameters_(std::move(parameters)), gradient_(parameters_->gradient()) {}
  // data: [parameters->size()], which outlives it, zero if the parameters are sparse.
  GradientBuffer(std::shared_ptr<Parameters<T>> parameters, T* data)
      : parameters_(std::move(parameters)),
        chosen_(std::in_place, parameters_->device(), data, parameters_->size(), mutex_),
        gradient_(*chosen_) {
    if (const TouchedRows* rows = parameters_->touched())
      chosen_->make_sparse(parameters_->entries()[0].shape[0], rows->row_size());
  }

  const std::shared_ptr<Parameters<T>>& parameters() const { return parameters_; }
  Gradient<T>& gradient() const { return gradient_; }
  bool chosen() const { return bool(chosen_); }

 private:
  std::shared_ptr<Parameters<T>> parameters_;
  std::shared_mutex mutex_;
  std::optional<Gradient<T>> chosen_;
  Gradient<T>& gradient_;
};

// The buffers that a backward's gradients go to; a null pointer to them: the parameters' own.
template <class T>
using GradientBuffers = std::vector<GradientBuffer<T>*>;

// Where the gradient of `parameters` goes; null if there is no buffer for these.
template <class T>
Gradient<T>* find_gradient(const GradientBuffers<T>* buffers, Parameters<T>& parameters) {
  if (!buffers) return &parameters.gradient();
  for (const GradientBuffer<T>* buffer : *buffers)
    if (buffer->parameters().get() == &parameters) return &buffer->gradient();
  return nullptr;
}

}  // namespace recurra
