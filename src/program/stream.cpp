#include "program/stream.h"

#include <algorithm>

namespace recurra {

template <class T>
Stream<T>::Stream(std::shared_ptr<Program<T>> program, ptrdiff_t rows)
    : program_(std::move(program)), rows_(rows), has_step_(program_->prepares_step(rows)) {
  const char* name = program_->name().c_str();
  check(program_->streamable(), name,
        "a bidirectional layer cannot be streamed: its reverse direction begins at the end");
  check(rows >= 0, name, "batch_size is ", rows, ", expected 0 or more");
  program_->check_size({rows, 1, nullptr, nullptr, 0, 0}, program_->state_size());
  const ptrdiff_t size = program_->state_size();
  for (StateRows<T>& state : states_) {
    state = {memory_.take<T>(size_t(rows * size)), size};
    std::fill_n(state.data, rows * size, T(0));
  }
}

template <class T>
Stream<T>::Use::Use(const Stream& stream) : stream_(stream) {
  check(!stream_.in_use_.exchange(true, std::memory_order_acquire), stream_.program_->name().c_str(),
        "the stream is in use by another thread; give each thread a stream of its own");
}

template <class T>
void Stream<T>::run(const Batch& batch, const Input<T>& x, ptrdiff_t features, const Sequence<T>& y, Stop* stop) {
  if (has_step_ && batch.steps == 1 && !batch.lengths)
    return step(
        {{x.features.data, x.features.row_stride, y.data, y.row_stride, batch.reset, batch.reset_row, 0}, x.tokens});
  const Use use(*this);
  const StateRows<T>&from = states_[current_], &to = states_[1 - current_];
  scratch_.reset();  // what a call that failed has left
  program_->forward({batch, x, {from.data, from.stride}, stop}, features, y, to, scratch_);
  scratch_.reset();
  current_ = 1 - current_;
}

template <class T>
void Stream<T>::step(LayerStepCall<T> call) {
  const Use use(*this);
  if (!step_) step_ = std::make_unique<ProgramStep<T>>(*program_, rows_, states_);
  call.from = int(current_);
  step_->run(call);
  current_ = 1 - current_;
}

template <class T>
void Stream<T>::reset(ptrdiff_t row) {
  const Use use(*this);
  const ptrdiff_t size = program_->state_size();
  std::fill_n(state() + row * size, size, T(0));
}

template <class T>
std::unique_ptr<Stream<T>> Stream<T>::fork(ptrdiff_t copies) const {
  check(copies >= 1 && copies <= (ptrdiff_t(1) << 31) / std::max<ptrdiff_t>(rows_, 1), program_->name().c_str(),
        "copies is ", copies, ", expected at least 1 and no more than the rows can take");
  const Use use(*this);
  auto made = std::make_unique<Stream>(program_, rows_ * copies);
  const ptrdiff_t size = program_->state_size();
  for (ptrdiff_t r = 0; r < rows_ * copies; ++r)
    std::copy_n(states_[current_].at(r / copies), size, made->states_[made->current_].at(r));
  return made;
}

template class Stream<float>;
template class Stream<double>;

}  // namespace recurra
