#include "layers/batch_norm.h"

#include <cmath>

#include "layers/affine.h"
#include "layers/channels.h"

namespace recurra {

template <class T>
struct BatchNorm<T>::Tape : FlatTape<T> {
  Statistics statistics;
  ptrdiff_t steps;  // valid steps, or their positions, of the batch that gave the statistics; 0 for the running ones
  bool of_batch() const { return steps > 0; }
  int64_t number() const override { return steps; }
  void set_number(int64_t number) override { steps = ptrdiff_t(number); }
};

template <class T>
BatchNorm<T>::BatchNorm(const Devices& devices, ptrdiff_t features, double eps, double momentum, bool affine,
                        bool images)
    : Layer<T>(devices, affine_specs("BatchNorm", features, affine)),
      features_(features),
      images_(images),
      eps_(T(eps)),
      momentum_(T(momentum)),
      running_(std::make_shared<Parameters<T>>(
          devices, std::vector<ParameterSpec>{{"running_mean", {features}}, {"running_var", {features}}})) {
  check(eps > 0, "BatchNorm", "eps is ", eps, ", expected a number above 0");
  check(momentum >= 0 && momentum <= 1, "BatchNorm", "momentum is ", momentum, ", expected 0 to 1");
  fill_flat(this->device(), running_->values() + features, features, T(1));
}

template <class T>
ptrdiff_t BatchNorm<T>::output_features(const ptrdiff_t* features, ptrdiff_t) const {
  if (images_) check_positions("BatchNorm2d", "channels", features[0], features_);
  return features[0];
}

template <class T>
auto BatchNorm<T>::take_statistics(Arena& memory) const -> Statistics {
  T* data = memory.take<T>(size_t(3 * features_));
  return {data, data + features_, data + 2 * features_};
}

template <class T>
void BatchNorm<T>::read_running(Statistics& statistics) const {
  const ReadLock lock(running_->mutex());
  // In both, the variance follows the mean.
  copy_flat<T>(this->device(), running_->values(), 2 * features_, statistics.mean);
}

template <class T>
void BatchNorm<T>::move_running(const Statistics& statistics, ptrdiff_t steps) {
  const WriteLock lock(running_->mutex());
  const HostAccess access(this->devices());
  T *mean = running_->values(), *variance = mean + features_;
  const T unbiased = T(steps) / T(steps - 1);
  for (ptrdiff_t k = 0; k < features_; ++k) {
    mean[k] += momentum_ * (statistics.mean[k] - mean[k]);
    variance[k] += momentum_ * (unbiased * statistics.variance[k] - variance[k]);
  }
}

template <class T>
void BatchNorm<T>::normalise(const Run& run, const LayerForward<T>& call, Statistics& statistics) {
  {
    const HostAccess access(this->devices());
    for (ptrdiff_t k = 0; k < features_; ++k) statistics.rstd[k] = 1 / std::sqrt(statistics.variance[k] + eps_);
  }
  const Affine<T> affine = affine_of(*this->parameters(), features_, run.arena);
  Positions<T> positions(run, call.batch, call.features, features_);
  run.device<T>().feature_norm(run, position_batch(call.batch, call.features / features_, run.host), features_,
                               {statistics.mean, statistics.rstd, affine.gain}, affine.shift,
                               positions.read(call.x.features), positions.write(call.y));
  positions.finish();
}

template <class T>
void BatchNorm<T>::forward(const Run& run, const LayerForward<T>& call) {
  Statistics statistics = take_statistics(run.arena);
  read_running(statistics);
  normalise(run, call, statistics);
}

template <class T>
std::unique_ptr<LayerTape<T>> BatchNorm<T>::take_tape(const LayerForward<T>& call, bool training,
                                                      Memory& memory) const {
  auto tape = std::make_unique<Tape>();
  tape->statistics = take_statistics(memory.device);
  tape->steps = training && !frozen() ? call.batch.tokens() * (call.features / features_) : 0;
  return tape;
}

template <class T>
void BatchNorm<T>::record(const Run& run, const LayerForward<T>& call, LayerTape<T>& any_tape) {
  auto& tape = static_cast<Tape&>(any_tape);
  if (tape.of_batch()) {
    check(tape.steps > 1, images_ ? "BatchNorm2d" : "BatchNorm",
          "got one valid step in a batch to train on, expected two or more, as one has no "
          "variance; make batches larger, or record with training=False");
    const Positions<T> positions(run, call.batch, call.features, features_);
    run.device<T>().feature_statistics(run, position_batch(call.batch, call.features / features_, run.host), features_,
                                       positions.read(call.x.features), tape.statistics.mean, tape.statistics.variance);
  } else {
    read_running(tape.statistics);
  }
  normalise(run, call, tape.statistics);
}

template <class T>
void BatchNorm<T>::recorded(const LayerTape<T>& any_tape) {
  const auto& tape = static_cast<const Tape&>(any_tape);
  if (tape.of_batch()) move_running(tape.statistics, tape.steps);
}

template <class T>
void BatchNorm<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& any_tape, Memory& memory) {
  auto& tape = static_cast<Tape&>(any_tape);
  const Affine<T> gradient = start_affine_gradient(tape, *this->parameters(), features_, memory, run.arena);
  if (!call.dy.data) return;
  const Affine<T> affine = affine_of(*this->parameters(), features_, run.arena);
  Positions<T> positions(run, call.batch, call.features, features_);
  run.device<T>().feature_norm_gradient(run, position_batch(call.batch, call.features / features_, run.host), features_,
                                        {tape.statistics.mean, tape.statistics.rstd, affine.gain}, tape.of_batch(),
                                        positions.read(call.x.features), positions.read(call.dy),
                                        positions.write(call.dx), gradient.gain, gradient.shift);
  positions.finish();
}

template <class T>
void BatchNorm<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int) {
  to.add(static_cast<Tape&>(tape).gradient);
}

template class BatchNorm<float>;
template class BatchNorm<double>;

}  // namespace recurra
