// The state of sequences that arrive step by step, and the buffers of a step.
#pragma once
#include "platform/fork.h"
#include "program/step.h"
#include "program/stream_state.h"

namespace recurra {

template <class T>
class Stream {
 public:
  Stream(std::shared_ptr<Program<T>> program, ptrdiff_t rows);
  ~Stream();

  Program<T>& program() const { return *program_; }
  ptrdiff_t rows() const { return rows_; }

  // Steps of the listed rows, row i of the inputs being the i-th of the list, from the state at hand. The state changes
  // only if all went well, and that of other rows never; a row's bits depend neither on the list nor on its order.
  // Allocates nothing once it has seen a call as large. It and step() throw WeightsMoved as Program::forward does. This
  // and the next ones throw std::invalid_argument while another thread uses the stream, and for lists that name a row
  // twice or one that is not there. The inputs are over one time axis, dense, with one reset for all.
  void run(const Value<T>* inputs, const Sequence<T>* outputs, Stop*, const RowList& list = {});
  // One step, prepared beforehand. Only if has_step(rows listed): large ones are for run(). The call's rows and states
  // are filled in.
  bool has_step(ptrdiff_t rows) const { return rows <= step_rows_; }
  double step_work(ptrdiff_t rows) const { return row_work_ * double(rows); }  // multiply-adds, roughly
  void step(ProgramStepCall<T>& call, const RowList& list = {});
  // How often run(), step(), reset(), load() and copy() changed the state. undo() takes back the change that came
  // since, if one did.
  uint64_t moves() const { return moves_; }
  void undo(uint64_t moves);
  void reset(const RowList& list = {});
  void load(const T* state, const RowList& list = {});  // (rows listed, state_size)
  // Row to[i] gets the state that row from[i] had, for i < n.
  void copy(const int64_t* from, const int64_t* to, ptrdiff_t n);
  // The i-th row listed becomes rows i * copies ... i * copies + copies - 1. Rows may be listed twice.
  std::unique_ptr<Stream> fork(ptrdiff_t copies, const RowList& list = {}) const;
  const T* state() const { return state_.data(); }  // (rows, state_size)
  void read(const RowList& list, T* state) const;   // (rows listed, state_size), which may be listed twice

  // Held while state() is read, as the others do themselves.
  class Use {
   public:
    explicit Use(const Stream& stream);
    ~Use() { stream_.turn_.end(); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    const Stream& stream_;
  };

 private:
  // What a call works with. A call that was under way in another thread when this process was forked has left the state
  // as it was before, but these in the midst of being changed: they are not looked at again, nor destroyed.
  struct Work {
    explicit Work(const Devices& devices) : scratch(devices) {}
    Memory scratch;
    std::unique_ptr<ProgramStep<T>> step;  // made when the first step comes
  };

  const Device<T>& device() const { return program_->devices().template of<T>(); }
  void advance(ProgramStepCall<T>& call, const RowList& list);
  ptrdiff_t count(const RowList& list) const { return list.all() ? rows_ : list.count; }
  void check_rows(const RowList& list, const char* what = "rows") const;
  void check_each_once(const RowList& list, const char* what = "rows");
  void commit(const RowList& list);

  std::shared_ptr<Program<T>> program_;
  ptrdiff_t rows_;
  mutable StreamState<T> state_;
  uint64_t moves_ = 0;
  mutable std::unique_ptr<Work> work_;
  std::vector<StepInput<T>> step_inputs_;
  std::vector<StepOutput<T>> step_outputs_;
  const ptrdiff_t step_rows_;  // the most rows of a prepared step
  const double row_work_;      // of a row's step
  std::vector<uint64_t> counts_;
  Seen seen_;  // of the last step
  mutable Turn turn_;
};

}  // namespace recurra
