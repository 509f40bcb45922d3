#include "program/stream.h"

#include <algorithm>

namespace recurra {

template <class T>
Stream<T>::Stream(std::shared_ptr<Program<T>> program, ptrdiff_t rows) : program_(std::move(program)), rows_(rows) {
  const char* name = program_->name().c_str();
  check(program_->streamable(), name,
        "a bidirectional layer cannot be streamed: its reverse direction begins at the end");
  check(rows >= 0, name, "batch_size is ", rows, ", expected 0 or more");
  program_->check_size({rows, 1, nullptr, nullptr, 0, 0}, program_->state_size());
  for (std::vector<T>& state : states_) state.assign(size_t(rows * program_->state_size()), T(0));
}

template <class T>
void Stream<T>::run(Batch batch, Input<T> x, ptrdiff_t features, Sequence<T> y, Stop* stop) {
  const ptrdiff_t size = program_->state_size();
  scratch_.reset();  // what a call that failed has left
  ProgramInput<T> input = {batch, x, {states_[current_].data(), size}, stop};
  program_->forward(input, features, y, {states_[1 - current_].data(), size}, scratch_);
  scratch_.reset();
  current_ = 1 - current_;
}

template <class T>
void Stream<T>::reset(ptrdiff_t row) {
  const ptrdiff_t size = program_->state_size();
  std::fill_n(state() + row * size, size, T(0));
}

template <class T>
std::unique_ptr<Stream<T>> Stream<T>::fork(ptrdiff_t copies) const {
  check(copies >= 1 && copies <= (ptrdiff_t(1) << 31) / std::max<ptrdiff_t>(rows_, 1), program_->name().c_str(),
        "copies is ", copies, ", expected at least 1 and no more than the rows can take");
  auto made = std::make_unique<Stream>(program_, rows_ * copies);
  const ptrdiff_t size = program_->state_size();
  for (ptrdiff_t r = 0; r < rows_ * copies; ++r)
    std::copy_n(states_[current_].data() + r / copies * size, size, made->state() + r * size);
  return made;
}

template class Stream<float>;
template class Stream<double>;

}  // namespace recurra
