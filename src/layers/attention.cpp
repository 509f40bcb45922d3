#include "layers/attention.h"

namespace recurra {

template <class T>
struct Attention<T>::Packed {
  Arena memory;
  typename Scoring<T>::Packed scoring;
};

template <class T>
struct Attention<T>::Tape : FlatTape<T> {
  Attending<T> attending;
};

template <class T>
Attention<T>::Attention(const Devices& devices, const ScoringOptions& options)
    : Attention(devices, Scoring<T>("Attention", options)) {}

template <class T>
Attention<T>::Attention(const Devices& devices, const Scoring<T>& scoring)
    : AttendingLayer<T>(devices, scoring.parameters(), scoring) {}

template <class T>
double Attention<T>::work() const {
  return scoring_.work();
}

template <class T>
auto Attention<T>::packed(bool backward) -> Weights {
  return this->cached(backward ? both_ : forward_, [&](Arena memory) {
    auto made = std::make_unique<Packed>();
    made->memory = std::move(memory);
    made->scoring = scoring_.pack(this->device(), this->parameters()->values(), backward, made->memory);
    return made;
  });
}

template <class T>
void Attention<T>::take(const LayerForward<T>& call, bool backward, Sequence<T> weights, Attending<T>& to,
                        Arena& arena) const {
  const OtherInput<T>& memory = call.others[0];
  this->check_size(call.batch, memory);
  scoring_.take(this->device(), memory, backward, to, arena);
  to.call.query = call.x.features;
  if (scoring_.projects_query()) {
    to.queries = take_sequence<T>(arena, call.batch, scoring_.spec().key_size);
    to.call.query = read_only(to.queries);
  }
  to.call.weights = weights.data ? weights : take_sequence<T>(arena, call.batch, memory.batch.steps);
  to.call.context = call.y;
}

template <class T>
void Attention<T>::look(const Run& run, const LayerForward<T>& call, const Packed& packed, Attending<T>& to) const {
  scoring_.prepare(run, packed.scoring, to, run.arena);
  if (to.queries.data) packed.scoring.query.multiply(run, call.batch, call.x.features, to.queries);
  if (run.stopped()) return;
  for_step_blocks(run, call.batch, to.rows->queries_at_once(), [&](ptrdiff_t r, ptrdiff_t begin, ptrdiff_t count) {
    to.rows->forward(to.call, r, r, begin, count);
  });
}

template <class T>
void Attention<T>::attend(const Run& run, const LayerForward<T>& call, Sequence<T> weights) {
  const Weights weight = packed(false);
  Attending<T> attending;
  take(call, false, weights, attending, run.arena);
  look(run, call, *weight.value, attending);
}

template <class T>
std::unique_ptr<LayerTape<T>> Attention<T>::take_tape(const LayerForward<T>& call, bool, Memory& memory) const {
  auto tape = std::make_unique<Tape>();
  take(call, true, {}, tape->attending, memory.device);
  return tape;
}

template <class T>
void Attention<T>::record(const Run& run, const LayerForward<T>& call, LayerTape<T>& tape) {
  const Weights weight = packed(false);
  look(run, call, *weight.value, static_cast<Tape&>(tape).attending);
}

template <class T>
void Attention<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& any_tape, Memory& memory) {
  auto& tape = static_cast<Tape&>(any_tape);
  T* gradient = start_gradient(tape, *this->parameters(), memory);
  const Sequence<T> dmemory = call.others_dx ? call.others_dx[0] : Sequence<T>{};
  Attending<T>& to = tape.attending;
  if (!call.dy.data) {
    if (dmemory.data) run.device<T>().fill(to.batch, this->memory_size(), T(0), dmemory);
    return;
  }
  const Weights weight = packed(true);
  to.rows->begin_backward(run.arena);
  const bool projects = scoring_.projects_query();
  to.call.dcontext = call.dy;
  to.call.dquery =
      projects || !call.dx.data ? take_sequence<T>(run.arena, call.batch, scoring_.spec().key_size) : call.dx;
  to.call.dscores = take_sequence<T>(run.arena, call.batch, to.batch.steps);
  for_step_blocks(run, call.batch, to.rows->queries_at_once(), [&](ptrdiff_t r, ptrdiff_t begin, ptrdiff_t count) {
    to.rows->backward(to.call, r, r, begin, count);
  });
  if (run.stopped()) return;
  scoring_.finish(run, weight.value->scoring, call.batch, nullptr, to, dmemory, gradient);
  scoring_.finish_queries(run, call.batch, call.x.features, read_only(to.call.dquery), gradient);
  if (projects && call.dx.data)
    weight.value->scoring.query_t.multiply(run, call.batch, read_only(to.call.dquery), call.dx);
}

template <class T>
void Attention<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int) {
  to.add(static_cast<FlatTape<T>&>(tape).gradient);
}

template class Attention<float>;
template class Attention<double>;

}  // namespace recurra
