// Single steps of a program, prepared once.
#pragma once
#include "program/program.h"

namespace recurra {

// Where a step finds its inputs and leaves its outputs. A row begins `row` elements after the one before it.
template <class T>
struct StepInput {
  const T* x;
  ptrdiff_t row;
  Sequence<const int64_t> tokens;
};
template <class T>
struct StepOutput {
  T* y;
  ptrdiff_t row;
};

template <class T>
struct ProgramStepCall {
  const StepInput<T>* inputs;
  const StepOutput<T>* outputs;
  const uint8_t* reset;  // null: none
  ptrdiff_t reset_row;
  ptrdiff_t rows;
  StateRows<const T> state;
  StateRows<T> final_state;  // elsewhere than `state`
  Stop* stop = nullptr;      // of a long run of steps; once requested, the output is undefined
};

// An input that stays the same over all steps: what layers with attention look at. `weights` gets an attention
// decoder's of each step, (rows, steps of the input).
template <class T>
struct StepMemory {
  ptrdiff_t value;
  OtherInput<T> input;
  T* weights;
};

// Each layer's own preparation and the buffers between layers. A step runs on its caller's thread and allocates
// nothing after the first. Not for two threads at once.
template <class T>
class ProgramStep {
 public:
  // For at most `rows` rows; with memories, which must live as long, for exactly as many. The program outlives it.
  ProgramStep(const Program<T>&, ptrdiff_t rows, const std::vector<StepMemory<T>>& memories = {});

  ptrdiff_t rows() const { return rows_; }
  void run(const ProgramStepCall<T>&);

 private:
  struct Part {
    std::unique_ptr<LayerStep<T>> step;
    ptrdiff_t input, y;  // values
    ptrdiff_t state;     // where its state begins in a row
    std::vector<ptrdiff_t> other_inputs;
    std::vector<OtherInput<T>> others;  // but for where they are, unless it is a memory
    std::vector<bool> fixed;            // whether it is
  };
  std::vector<Part> parts_;
  std::vector<StepInput<T>> values_;    // where each value is; those of the call are filled in
  std::vector<StepOutput<T>> buffers_;  // where each value is written
  std::vector<ptrdiff_t> outputs_;
  size_t inputs_;
  ptrdiff_t rows_;
  Memory memory_;
};

}  // namespace recurra
