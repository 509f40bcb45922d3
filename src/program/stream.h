// The state of sequences that arrive step by step, and the buffers of a step.
#pragma once
#include "platform/fork.h"
#include "program/step.h"

namespace recurra {

template <class T>
class Stream {
 public:
  Stream(std::shared_ptr<Program<T>> program, ptrdiff_t rows);
  ~Stream();

  Program<T>& program() const { return *program_; }
  ptrdiff_t rows() const { return rows_; }

  // Steps of all rows from the state at hand; the state moves on only if all went well. Allocates nothing once it has
  // seen a call as large. It and step() throw WeightsMoved as Program::forward does. This and the next ones throw
  // std::invalid_argument while another thread uses the stream. The inputs are over one time axis, dense, with one
  // reset for all.
  void run(const Value<T>* inputs, const Sequence<T>* outputs, Stop*);
  // One step of all rows, prepared beforehand. Only if has_step(): large ones are for run(). `from` is filled in.
  bool has_step() const { return has_step_; }
  void step(const ProgramStepCall<T>& call);
  // How often run(), step(), reset() and load() moved the state. undo() takes back the one that came since, if one did.
  uint64_t moves() const { return moves_; }
  void undo(uint64_t moves);
  void reset(const int64_t* rows, ptrdiff_t count);
  std::unique_ptr<Stream> fork(ptrdiff_t copies) const;
  void load(const T* state);
  const T* state() const { return states_[current_].data; }  // (rows, state_size)

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
  void advance(ProgramStepCall<T> call);
  void move();

  std::shared_ptr<Program<T>> program_;
  ptrdiff_t rows_;
  Arena memory_;
  TwoStates<T> states_;
  size_t current_ = 0;
  uint64_t moves_ = 0;
  mutable std::unique_ptr<Work> work_;
  std::vector<StepInput<T>> step_inputs_;
  std::vector<StepOutput<T>> step_outputs_;
  const bool has_step_;
  std::vector<uint64_t> counts_;
  Seen seen_;  // of the last step
  mutable Turn turn_;
};

}  // namespace recurra
