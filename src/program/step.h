// Single steps of a program, prepared once.
#pragma once
#include "program/program.h"

namespace recurra {

// Each layer's own preparation and the buffers between layers. A step runs on its caller's thread and allocates
// nothing after the first. Not for two threads at once.
template <class T>
class ProgramStep {
 public:
  // For so many rows and two states that stay where they are. The program outlives it.
  ProgramStep(const Program<T>&, ptrdiff_t rows, const TwoStates<T>&);

  void run(const LayerStepCall<T>&);

 private:
  struct Part {
    std::unique_ptr<LayerStep<T>> step;
    T* y;  // null: the caller's, of the last layer
    ptrdiff_t y_row;
  };
  std::vector<Part> parts_;
  Arena memory_;
};

}  // namespace recurra
