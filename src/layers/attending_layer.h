#pragma once
#include "layers/scoring.h"

namespace recurra {

// The base of layers that attend to a memory, their second input.
template <class T>
class AttendingLayer : public Layer<T> {
 public:
  ptrdiff_t inputs() const final { return 2; }
  ptrdiff_t memory_size() const { return scoring_.spec().memory_size; }
  ptrdiff_t other_size(ptrdiff_t) const final { return memory_size(); }
  bool streamable() const final { return false; }
  double work_per_memory_step() const final { return scoring_.work_per_memory_step(); }

  void forward(const Run& run, const LayerForward<T>& call) final { attend(run, call, {}); }
  // forward() that also writes the weights (row, step, memory step), unless weights.data is null.
  virtual void attend(const Run&, const LayerForward<T>&, Sequence<T> weights) = 0;

 protected:
  AttendingLayer(const Devices& devices, const std::vector<ParameterSpec>& parameters, Scoring<T> scoring)
      : Layer<T>(devices, parameters), scoring_(std::move(scoring)) {
    scoring_.find(*this->parameters());
  }

  // Throws std::invalid_argument if there would be too many weights to address.
  void check_size(const Batch& batch, const OtherInput<T>& memory) const {
    const double weights = double(batch.rows) * double(batch.steps) * double(memory.batch.steps);
    check(weights < 0x1p48, this->kind(), batch.rows, " rows of ", batch.steps, " steps that look at ",
          memory.batch.steps, " are too many, expected fewer");
  }

  Scoring<T> scoring_;
};

}  // namespace recurra
