#include "layers/hopfield.h"

#include <cmath>

#include "layers/scoring.h"

namespace recurra {

// A call's arrays. A row of n steps takes its first n places for the states that it begins with, the next n for those
// after one step of retrieval, and so on: so the memory's gradient is that of one longer row of queries.
template <class T>
struct Hopfield<T>::Retrieval {
  Batch memory = {};
  Sequence<T> states = {}, weights = {};
  Sequence<int32_t> taken = {};  // steps of retrieval
  std::unique_ptr<AttentionMemory<T>> rows;

  // Attention from the states of a row of n steps to those one step of retrieval later.
  AttentionCall<T> call(ptrdiff_t n) const {
    AttentionCall<T> made = {};
    made.query = read_only(states);
    made.context = {states.data + n * states.step_stride, states.row_stride, states.step_stride};
    made.weights = weights;
    return made;
  }
};

template <class T>
struct Hopfield<T>::Tape : LayerTape<T> {
  Retrieval retrieval;
};

template <class T>
Hopfield<T>::Hopfield(const Devices& devices, const HopfieldOptions& options)
    : Layer<T>(devices), options_(options), spec_{false, options.size, options.size, options.beta} {
  constexpr const char* kName = "Hopfield";
  check(options.size >= 1 && options.size <= 1 << 20, kName, "size is ", options.size, ", expected 1 to ", 1 << 20);
  check(options.beta > 0 && std::isfinite(options.beta), kName, "beta is ", options.beta, ", expected more than 0");
  check(options.steps >= 1 && options.steps <= 1 << 16, kName, "steps is ", options.steps, ", expected 1 to ", 1 << 16);
  check(options.tolerance >= 0, kName, "tolerance is ", options.tolerance, ", expected 0 or more");
}

template <class T>
void Hopfield<T>::take(const LayerForward<T>& call, bool backward, Retrieval& to, Memory& memory) const {
  const OtherInput<T>& other = call.others[0];
  const ptrdiff_t rows = call.batch.rows, steps = call.batch.steps, times = options_.steps;
  const double size = double(rows) * double(steps) * double(times + 1);
  check(size * double(std::max(other.batch.steps, options_.size)) < 0x1p48, this->kind(), rows, " rows of ", steps,
        " steps, ", times, " times, that look at ", other.batch.steps, " are too many, expected fewer");
  to.memory = other.batch;
  to.states = take_sequence<T>(memory.device, rows, (times + 1) * steps, options_.size);
  to.weights = take_sequence<T>(memory.device, rows, times * steps, other.batch.steps);
  to.taken = take_sequence<int32_t>(memory.device, rows, steps, 1);
  to.rows = this->device().attention_memory({&spec_, &to.memory, other.x, {}, backward}, memory.device);
}

template <class T>
ptrdiff_t Hopfield<T>::at_once(const Retrieval& retrieval) const {
  return options_.tolerance > 0 ? 1 : retrieval.rows->queries_at_once();
}

template <class T>
void Hopfield<T>::retrieve(const Run& run, const LayerForward<T>& call, Retrieval& to) const {
  const ptrdiff_t size = options_.size;
  to.rows->pack(run, nullptr, run.arena);
  if (run.stopped()) return;
  for_step_blocks(run, call.batch, at_once(to), [&](ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) {
    const ptrdiff_t n = call.batch.length(row);
    const AttentionCall<T> attention = to.call(n);
    const auto copy = [&](Sequence<const T> from, ptrdiff_t at, Sequence<T> into, ptrdiff_t first) {
      const HostAccess access(this->devices());
      for (ptrdiff_t s = 0; s < count; ++s) std::copy_n(from.at(row, at + s), size, into.at(row, first + s));
    };
    copy(call.x.features, begin, to.states, begin);
    ptrdiff_t k = 0;
    for (bool moves = true; k < options_.steps && moves && !run.poll(); ++k) {
      to.rows->forward(attention, row, row, k * n + begin, count);
      if (options_.tolerance == 0) continue;
      const HostAccess access(this->devices());
      const T *before = to.states.at(row, k * n + begin), *after = to.states.at(row, (k + 1) * n + begin);
      moves = false;
      for (ptrdiff_t i = 0; i < size; ++i)
        moves |= !(std::fabs(double(after[i]) - double(before[i])) <= options_.tolerance);
    }
    copy(read_only(to.states), k * n + begin, call.y, begin);
    const HostAccess access(this->devices());
    for (ptrdiff_t s = begin; s < begin + count; ++s) *to.taken.at(row, s) = int32_t(k);
    for (; k < options_.steps; ++k) {  // what was not taken has no part in the memory's gradient
      std::fill_n(to.weights.at(row, k * n + begin), to.memory.steps, T(0));
      std::fill_n(to.states.at(row, (k + 1) * n + begin), size, T(0));
    }
  });
}

template <class T>
void Hopfield<T>::forward(const Run& run, const LayerForward<T>& call) {
  Memory memory(this->devices());
  Retrieval retrieval;
  take(call, false, retrieval, memory);
  retrieve(run, call, retrieval);
}

template <class T>
std::unique_ptr<LayerTape<T>> Hopfield<T>::take_tape(const LayerForward<T>& call, bool, Memory& memory) const {
  auto tape = std::make_unique<Tape>();
  take(call, true, tape->retrieval, memory);
  return tape;
}

template <class T>
void Hopfield<T>::record(const Run& run, const LayerForward<T>& call, LayerTape<T>& tape) {
  retrieve(run, call, static_cast<Tape&>(tape).retrieval);
}

template <class T>
void Hopfield<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& any_tape, Memory&) {
  Retrieval& from = static_cast<Tape&>(any_tape).retrieval;
  const Sequence<T> dmemory = call.others_dx ? call.others_dx[0] : Sequence<T>{};
  if (!call.dy.data) {
    if (dmemory.data) run.device<T>().fill(from.memory, options_.size, T(0), dmemory);
    return;
  }
  const ptrdiff_t rows = call.batch.rows, times = options_.steps, size = options_.size;
  const Sequence<T> d = take_sequence<T>(run.arena, rows, (times + 1) * call.batch.steps, size);
  const Sequence<T> dscores = take_sequence<T>(run.arena, rows, times * call.batch.steps, from.memory.steps);
  from.rows->begin_backward(run.arena);
  const auto of_row = [&](ptrdiff_t n) {
    AttentionCall<T> made = from.call(n);
    made.dquery = d;
    made.dcontext = {d.data + n * d.step_stride, d.row_stride, d.step_stride};
    made.dscores = dscores;
    return made;
  };
  for_step_blocks(run, call.batch, at_once(from), [&](ptrdiff_t row, ptrdiff_t begin, ptrdiff_t count) {
    const ptrdiff_t n = call.batch.length(row);
    const AttentionCall<T> attention = of_row(n);
    ptrdiff_t taken;
    {
      const HostAccess access(this->devices());
      taken = *from.taken.at(row, begin);  // the same for all of the block
      for (ptrdiff_t k = taken; k < times; ++k) {
        std::fill_n(dscores.at(row, k * n + begin), from.memory.steps, T(0));
        std::fill_n(d.at(row, (k + 1) * n + begin), size, T(0));
      }
      for (ptrdiff_t s = begin; s < begin + count; ++s) std::copy_n(call.dy.at(row, s), size, d.at(row, taken * n + s));
    }
    for (ptrdiff_t k = taken; k-- > 0 && !run.poll();) from.rows->backward(attention, row, row, k * n + begin, count);
    const HostAccess access(this->devices());
    for (ptrdiff_t s = begin; call.dx.data && s < begin + count; ++s)
      std::copy_n(d.at(row, s), size, call.dx.at(row, s));
  });
  if (!dmemory.data || run.stopped()) return;
  const ptrdiff_t tasks = std::min<ptrdiff_t>(run.threads, rows);
  const ptrdiff_t scratch_size = from.rows->scratch_size(times * call.batch.steps);
  T* const scratch = run.arena.template take<T>(size_t(tasks * scratch_size));
  for_each_task(tasks, run.threads, [&](ptrdiff_t task) {
    for (ptrdiff_t row = rows * task / tasks; row < rows * (task + 1) / tasks; ++row) {
      const ptrdiff_t n = call.batch.length(row);
      from.rows->memory_gradient(run, of_row(n), row, row, times * n, {}, dmemory, scratch + task * scratch_size);
    }
  });
}

template class Hopfield<float>;
template class Hopfield<double>;

}  // namespace recurra
