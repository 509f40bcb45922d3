#include "program/stream.h"

#include <algorithm>

namespace recurra {

template <class T>
Stream<T>::Stream(std::shared_ptr<Program<T>> program, ptrdiff_t rows)
    : program_(std::move(program)),
      rows_(rows),
      memory_(program_->devices().memory),
      work_(std::make_unique<Work>(program_->devices())),
      step_inputs_(size_t(program_->graph().inputs())),
      step_outputs_(program_->graph().outputs().size()),
      has_step_(program_->prepares_step(rows)),
      counts_(program_->versions().size(), kNoCount),
      seen_(program_->versions(), counts_.data()) {
  const char* name = program_->name().c_str();
  check(program_->graph().streamable(), name,
        "it cannot be streamed: a layer reads a sequence from its end, or a state is passed to another layer");
  check(rows >= 0, name, "batch_size is ", rows, ", expected 0 or more");
  program_->graph().check_size({rows, 1, nullptr, nullptr, 0, 0}, program_->state_size());
  const ptrdiff_t size = program_->state_size();
  for (StateRows<T>& state : states_) {
    state = {memory_.take<T>(size_t(rows * size)), size};
    fill_rows(device(), rows, size, T(0), state);
  }
}

template <class T>
Stream<T>::~Stream() {
  if (turn_.abandoned()) static_cast<void>(work_.release());
}

template <class T>
Stream<T>::Use::Use(const Stream& stream) : stream_(stream) {
  const Turn::Answer answer = stream_.turn_.take();
  check(answer != Turn::kInUse, stream_.program_->name().c_str(),
        "the stream is in use by a call that is under way; give each thread a stream of its own");
  if (answer == Turn::kAbandoned) {
    static_cast<void>(stream_.work_.release());
    stream_.work_ = std::make_unique<Work>(stream_.program_->devices());
  }
}

template <class T>
void Stream<T>::run(const Value<T>* inputs, const Sequence<T>* outputs, Stop* stop) {
  const Use use(*this);
  const Batch& batch = inputs[0].batch;
  if (has_step_ && batch.steps == 1 && !batch.lengths) {
    for (size_t i = 0; i < step_inputs_.size(); ++i)
      step_inputs_[i] = {inputs[i].x.features.data, inputs[i].x.features.row_stride, inputs[i].x.tokens};
    for (size_t i = 0; i < step_outputs_.size(); ++i) step_outputs_[i] = {outputs[i].data, outputs[i].row_stride};
    advance({step_inputs_.data(), step_outputs_.data(), batch.reset, batch.reset_row, 0});
    return;
  }
  const StateRows<T>&from = states_[current_], &to = states_[1 - current_];
  Memory& scratch = work_->scratch;
  scratch.reset();  // what a call that failed has left
  Value<T>* values = program_->graph().plan(inputs, scratch.host);
  program_->forward({inputs, {from.data, from.stride}, stop}, values, outputs, to, scratch);
  scratch.reset();
  move();
}

template <class T>
void Stream<T>::step(const ProgramStepCall<T>& call) {
  const Use use(*this);
  advance(call);
}

template <class T>
void Stream<T>::advance(ProgramStepCall<T> call) {
  std::unique_ptr<ProgramStep<T>>& step = work_->step;
  if (!step) step = std::make_unique<ProgramStep<T>>(*program_, rows_, states_);
  call.from = int(current_);
  if (!seen_.is_current()) seen_.look();
  step->run(call);
  seen_.check();
  move();
}

// What was the state stays where it is until the next move.
template <class T>
void Stream<T>::move() {
  current_ = 1 - current_;
  ++moves_;
}

template <class T>
void Stream<T>::reset(const int64_t* rows, ptrdiff_t count) {
  const Use use(*this);
  const ptrdiff_t size = program_->state_size();
  T* to = states_[1 - current_].data;
  copy_rows<T>(device(), rows_, size, {state(), size}, {to, size});
  for (ptrdiff_t i = 0; i < count; ++i) fill_flat(device(), to + rows[i] * size, size, T(0));
  move();
}

template <class T>
void Stream<T>::load(const T* state) {
  const Use use(*this);
  copy_flat(device(), state, rows_ * program_->state_size(), states_[1 - current_].data);
  move();
}

template <class T>
void Stream<T>::undo(uint64_t moves) {
  const Use use(*this);
  if (moves_ != moves + 1) return;
  current_ = 1 - current_;
  moves_ = moves;
}

template <class T>
std::unique_ptr<Stream<T>> Stream<T>::fork(ptrdiff_t copies) const {
  check(copies >= 1 && copies <= (ptrdiff_t(1) << 31) / std::max<ptrdiff_t>(rows_, 1), program_->name().c_str(),
        "copies is ", copies, ", expected at least 1 and no more than the rows can take");
  const Use use(*this);
  auto made = std::make_unique<Stream>(program_, rows_ * copies);
  const ptrdiff_t size = program_->state_size();
  repeat_rows<T>(device(), rows_, copies, size, {state(), size}, made->states_[made->current_].data);
  return made;
}

template class Stream<float>;
template class Stream<double>;

}  // namespace recurra
