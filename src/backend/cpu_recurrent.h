// Recurrent stacks on the CPU: layers one after the other, directions and chunks of rows side by side.
#pragma once
#include "backend/backend.h"

namespace recurra {

template <class T>
struct CpuRecurrent {
  typedef std::vector<RecurrentOffsets> Offsets;
  static std::unique_ptr<RecurrentWeights<T>> pack(const RecurrentSpec&, const Offsets&, const T* parameters,
                                                   bool transposed, int threads, Arena memory);
  static void forward(const Run&, const RecurrentForward<T>&);
  static std::unique_ptr<RecurrentStep<T>> prepare_step(const RecurrentSpec&, ptrdiff_t rows, const TwoStates<T>&);
  static std::unique_ptr<RecurrentTape<T>> record(const Run&, const RecurrentForward<T>&, Arena& memory);
  static TapeBytes tape_bytes(const RecurrentSpec&, const Batch&, bool training);
  static void backward(const Run&, const RecurrentBackward<T>&, RecurrentTape<T>&);
  static bool read_tape(const RecurrentSpec&, const RecurrentTape<T>&, size_t index, const RecurrentActivity<T>&);
  static void add_gradient(const RecurrentSpec&, const Offsets&, const RecurrentTape<T>&, T* gradient, int threads);
};

}  // namespace recurra
