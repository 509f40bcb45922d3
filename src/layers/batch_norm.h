#pragma once
#include "layers/layer.h"

namespace recurra {

// Normalises each feature or, of images, each channel, in training over the batch's valid steps, otherwise by the
// running statistics.
template <class T>
class BatchNorm final : public Layer<T> {
 public:
  // images: a step has any number of positions, each with `features` channels.
  BatchNorm(const Devices&, ptrdiff_t features, double eps, double momentum, bool affine, bool images = false);

  const char* kind() const override { return "batch_norm"; }
  ptrdiff_t input_size() const override { return images_ ? 0 : features_; }
  ptrdiff_t output_size() const override { return images_ ? 0 : features_; }
  ptrdiff_t output_features(const ptrdiff_t* features, ptrdiff_t inputs) const override;
  double work() const override { return 8 * double(features_); }
  // running_mean and running_var, which a recorded forward in training updates, under their mutex.
  const std::shared_ptr<Parameters<T>>& running() const { return running_; }
  std::vector<const Version*> versions() const override {
    return {&this->parameters()->versions(), &running_->versions()};
  }

  // Frozen: training also uses the running statistics and does not update them.
  bool frozen() const { return frozen_.load(std::memory_order_relaxed); }
  void set_frozen(bool frozen) { frozen_.store(frozen, std::memory_order_relaxed); }

  void forward(const Run&, const LayerForward<T>&) override;
  std::unique_ptr<LayerTape<T>> take_tape(const LayerForward<T>&, bool training, Memory&) const override;
  void record(const Run&, const LayerForward<T>&, LayerTape<T>&) override;
  void recorded(const LayerTape<T>&) override;
  void backward(const Run&, const LayerBackward<T>&, LayerTape<T>&, Memory& memory) override;
  void commit(LayerTape<T>&, Gradient<T>&, int threads) override;

 private:
  struct Tape;
  struct Statistics {
    T *mean, *variance, *rstd;
  };
  Statistics take_statistics(Arena& memory) const;
  void read_running(Statistics&) const;
  void move_running(const Statistics&, ptrdiff_t steps);
  void normalise(const Run&, const LayerForward<T>&, Statistics&);

  ptrdiff_t features_;
  bool images_;
  T eps_, momentum_;
  std::shared_ptr<Parameters<T>> running_;
  std::atomic<bool> frozen_{false};
};

}  // namespace recurra
