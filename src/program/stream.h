// The state of sequences that arrive step by step, and the buffers of a step.
#pragma once
#include "program/program.h"

namespace recurra {

template <class T>
class Stream {
 public:
  Stream(std::shared_ptr<Program<T>> program, ptrdiff_t rows);

  Program<T>& program() const { return *program_; }
  ptrdiff_t rows() const { return rows_; }

  // Steps of all rows from the state at hand; the state moves on only if all went well. Allocates nothing once it has
  // seen a call as large.
  void run(Batch batch, Input<T> x, ptrdiff_t features, Sequence<T> y, Stop* stop);
  void reset(ptrdiff_t row);
  T* state() { return states_[current_].data(); }  // (rows, state_size)
  std::unique_ptr<Stream> fork(ptrdiff_t copies) const;

  std::mutex& mutex() { return mutex_; }  // held by whoever uses the stream

 private:
  std::shared_ptr<Program<T>> program_;
  ptrdiff_t rows_;
  std::vector<T> states_[2];
  int current_ = 0;
  Arena scratch_;
  std::mutex mutex_;
};

}  // namespace recurra
