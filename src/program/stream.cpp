#include "program/stream.h"

#include <algorithm>

namespace recurra {
namespace {

// Before memory for the state is taken.
template <class T>
ptrdiff_t checked_state_size(const Program<T>& program, ptrdiff_t rows) {
  const char* name = program.name().c_str();
  check(program.graph().streamable(), name,
        "it cannot be streamed: a layer reads a sequence from its end, or a state is passed to another layer");
  check(rows >= 0, name, "batch_size is ", rows, ", expected 0 or more");
  program.graph().check_size(single_step(rows), program.state_size());
  return program.state_size();
}

}  // namespace

template <class T>
Stream<T>::Stream(std::shared_ptr<Program<T>> program, ptrdiff_t rows)
    : program_(std::move(program)),
      rows_(rows),
      state_(program_->devices(), rows, checked_state_size(*program_, rows)),
      work_(std::make_unique<Work>(program_->devices())),
      step_inputs_(size_t(program_->graph().inputs())),
      step_outputs_(program_->graph().outputs().size()),
      step_rows_(program_->prepared_rows()),
      row_work_(program_->graph().work_per_step()),
      counts_(program_->versions().size(), kNoCount),
      seen_(program_->versions(), counts_.data()) {}

template <class T>
Stream<T>::~Stream() {
  if (!turn_.abandoned()) return;
  static_cast<void>(work_.release());
  state_.abandon();
}

template <class T>
Stream<T>::Use::Use(const Stream& stream) : stream_(stream) {
  const Turn::Answer answer = stream_.turn_.take();
  check(answer != Turn::kInUse, stream_.program_->name().c_str(),
        "the stream is in use by a call that is under way; give each thread a stream of its own");
  if (answer == Turn::kAbandoned) {
    static_cast<void>(stream_.work_.release());
    stream_.work_ = std::make_unique<Work>(stream_.program_->devices());
    stream_.state_.recover();
  }
}

template <class T>
void Stream<T>::check_rows(const RowList& list, const char* what) const {
  check_range(list, rows_, program_->name().c_str(), what);
}

template <class T>
void Stream<T>::check_each_once(const RowList& list, const char* what) {
  if (list.all()) return;
  check_rows(list, what);
  check_repeats(list, rows_, program_->name().c_str(), what, state_.marks());
}

template <class T>
void Stream<T>::run(const Value<T>* inputs, const Sequence<T>* outputs, Stop* stop, const RowList& list) {
  const Use use(*this);
  const Batch& batch = inputs[0].batch;
  if (has_step(batch.rows) && batch.steps == 1 && !batch.lengths) {
    for (size_t i = 0; i < step_inputs_.size(); ++i)
      step_inputs_[i] = {inputs[i].x.features.data, inputs[i].x.features.row_stride, inputs[i].x.tokens};
    for (size_t i = 0; i < step_outputs_.size(); ++i) step_outputs_[i] = {outputs[i].data, outputs[i].row_stride};
    ProgramStepCall<T> call = {step_inputs_.data(), step_outputs_.data(), batch.reset, batch.reset_row, 0, {}, {}};
    return advance(call, list);
  }
  check_each_once(list);
  if (list.count == 0) return;
  const auto change = state_.begin(list);
  Memory& scratch = work_->scratch;
  scratch.reset();  // what a call that failed has left
  Value<T>* values = program_->graph().plan(inputs, scratch.host);
  program_->forward({inputs, change.from, stop}, values, outputs, change.to, scratch);
  scratch.reset();
  commit(list);
}

template <class T>
void Stream<T>::step(ProgramStepCall<T>& call, const RowList& list) {
  const Use use(*this);
  advance(call, list);
}

template <class T>
void Stream<T>::advance(ProgramStepCall<T>& call, const RowList& list) {
  check_each_once(list);
  if (list.count == 0) return;
  call.rows = count(list);
  std::unique_ptr<ProgramStep<T>>& step = work_->step;
  if (!step || step->rows() < call.rows) {  // in strides, as with the state
    const ptrdiff_t most = step ? std::min(2 * step->rows(), std::min(rows_, step_rows_)) : 0;
    step = std::make_unique<ProgramStep<T>>(*program_, std::max(call.rows, most));
  }
  const auto change = state_.begin(list);
  call.state = change.from;
  call.final_state = change.to;
  if (!seen_.is_current()) seen_.look();
  step->run(call);
  seen_.check();
  commit(list);
}

template <class T>
void Stream<T>::commit(const RowList& list) {
  state_.commit(list);
  ++moves_;
}

template <class T>
void Stream<T>::reset(const RowList& list) {
  const Use use(*this);
  check_each_once(list);
  fill_rows(device(), count(list), program_->state_size(), T(0), state_.begin(list).to);
  commit(list);
}

template <class T>
void Stream<T>::load(const T* state, const RowList& list) {
  const Use use(*this);
  check_each_once(list);
  const ptrdiff_t size = program_->state_size();
  copy_rows<T>(device(), count(list), size, {state, size}, state_.begin(list).to);
  commit(list);
}

template <class T>
void Stream<T>::copy(const int64_t* from, const int64_t* to, ptrdiff_t n) {
  const Use use(*this);
  const RowList list = {to, n};
  check_rows({from, n}, "source");
  check_each_once(list, "target");
  const auto change = state_.begin(list);
  gather_rows(device(), from, n, program_->state_size(), state_.rows(), change.to);
  commit(list);
}

template <class T>
void Stream<T>::undo(uint64_t moves) {
  const Use use(*this);
  if (moves_ != moves + 1) return;
  state_.undo();
  moves_ = moves;
}

template <class T>
std::unique_ptr<Stream<T>> Stream<T>::fork(ptrdiff_t copies, const RowList& list) const {
  const ptrdiff_t n = count(list);
  check(copies >= 1 && copies <= (ptrdiff_t(1) << 31) / std::max<ptrdiff_t>(n, 1), program_->name().c_str(),
        "copies is ", copies, ", expected at least 1 and no more than the rows can take");
  const Use use(*this);
  check_rows(list);
  auto made = std::make_unique<Stream>(program_, n * copies);
  repeat_rows<T>(device(), n, copies, program_->state_size(), state_.rows(), made->state_.initial(), list.rows);
  return made;
}

template <class T>
void Stream<T>::read(const RowList& list, T* state) const {
  const Use use(*this);
  check_rows(list);
  const ptrdiff_t size = program_->state_size();
  gather_rows<T>(device(), list.rows, count(list), size, state_.rows(), {state, size});
}

template class Stream<float>;
template class Stream<double>;

}  // namespace recurra
