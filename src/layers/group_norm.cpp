#include "layers/group_norm.h"

#include "layers/channels.h"

namespace recurra {

template <class T>
struct GroupNorm<T>::Tape : FlatTape<T> {
  StateRows<T> statistics;
};

template <class T>
GroupNorm<T>::GroupNorm(const Devices& devices, ptrdiff_t groups, ptrdiff_t channels, double eps, bool affine,
                        bool instance)
    : Layer<T>(devices, affine_specs(instance ? "InstanceNorm1d" : "GroupNorm", channels, affine)),
      name_(instance ? "InstanceNorm1d" : "GroupNorm"),
      groups_(groups),
      channels_(channels),
      eps_(T(eps)) {
  check(groups >= 1 && channels % groups == 0, name_, "got ", groups, " groups of ", channels,
        " channels, expected a number of groups that divides the channels");
  check(eps > 0, name_, "eps is ", eps, ", expected a number above 0");
}

template <class T>
ptrdiff_t GroupNorm<T>::output_features(const ptrdiff_t* features, ptrdiff_t) const {
  check_positions(name_, "num_channels", features[0], channels_);
  return features[0];
}

template <class T>
Batch GroupNorm<T>::output_batch(const Batch& batch, Arena&) const {
  check(!batch.reset, name_,
        "got reset, expected none, as all steps of a row are normalised together; use LayerNorm, or leave reset out");
  return batch;
}

template <class T>
StateRows<T> GroupNorm<T>::take_statistics(const Batch& batch, Arena& memory) const {
  return {memory.take<T>(size_t(batch.rows * 2 * groups_)), 2 * groups_};
}

// Gain and shift of each feature, of one version of the parameters.
template <class T>
Affine<T> GroupNorm<T>::spread_affine(Arena& memory, ptrdiff_t features) {
  const Affine<T> own = affine_of(*this->parameters(), channels_, memory);
  T* const data = memory.take<T>(size_t(2 * features));
  spread<T>(this->device(), own.gain, channels_, features, data);
  spread<T>(this->device(), own.shift, channels_, features, data + features);
  return {data, data + features};
}

template <class T>
void GroupNorm<T>::normalise(const Run& run, const LayerForward<T>& call, StateRows<T> statistics) {
  const Affine<T> affine = spread_affine(run.arena, call.features);
  run.device<T>().group_norm(run, {&call.batch, call.features, channels_, groups_, eps_, affine.gain, statistics},
                             affine.shift, call.x.features, call.y);
}

template <class T>
void GroupNorm<T>::forward(const Run& run, const LayerForward<T>& call) {
  normalise(run, call, take_statistics(call.batch, run.arena));
}

template <class T>
std::unique_ptr<LayerTape<T>> GroupNorm<T>::take_tape(const LayerForward<T>& call, bool, Memory& memory) const {
  auto tape = std::make_unique<Tape>();
  tape->statistics = take_statistics(call.batch, memory.device);
  return tape;
}

template <class T>
void GroupNorm<T>::record(const Run& run, const LayerForward<T>& call, LayerTape<T>& tape) {
  normalise(run, call, static_cast<Tape&>(tape).statistics);
}

template <class T>
void GroupNorm<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& any_tape, Memory& memory) {
  auto& tape = static_cast<Tape&>(any_tape);
  const Affine<T> gradient = start_affine_gradient(tape, *this->parameters(), channels_, memory, run.arena);
  if (!call.dy.data) return;
  const Affine<T> affine = spread_affine(run.arena, call.features);
  T* const sums = run.arena.template take<T>(size_t(2 * call.features));
  fill_flat(run.device<T>(), sums, 2 * call.features, T(0));
  run.device<T>().group_norm_gradient(
      run, {&call.batch, call.features, channels_, groups_, eps_, affine.gain, tape.statistics}, call.x.features,
      call.dy, call.dx, sums, sums + call.features);
  sum_positions<T>(run, sums, call.features, channels_, gradient.gain);
  sum_positions<T>(run, sums + call.features, call.features, channels_, gradient.shift);
}

template <class T>
void GroupNorm<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int) {
  to.add(static_cast<Tape&>(tape).gradient);
}

template class GroupNorm<float>;
template class GroupNorm<double>;

}  // namespace recurra
