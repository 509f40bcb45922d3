// The CPU device behind a fence: its arrays can be looked at by its operations, and in a HostAccess.
#pragma once
#include <utility>

#include "fence.h"

namespace recurra {

template <class T>
class FencedStep final : public RecurrentStep<T> {
 public:
  explicit FencedStep(std::unique_ptr<RecurrentStep<T>> inner) : inner_(std::move(inner)) {}
  void run(const RecurrentWeights<T>& weights, const StepCall<T>& call) override {
    const FenceOpen open;
    inner_->run(weights, call);
  }

 private:
  std::unique_ptr<RecurrentStep<T>> inner_;
};

// What happens between the steps of a stack is the host's affair, though the stack's operation is under way. With
// several threads the others' steps need the memory meanwhile.
template <class T>
class FencedHook final : public StepHook<T> {
 public:
  explicit FencedHook(StepHook<T>& inner) : inner_(inner) {}
  void before_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) override {
    const FenceClosed closed;
    inner_.before_step(first, count, step);
  }
  void after_step(ptrdiff_t first, ptrdiff_t count, ptrdiff_t step) override {
    const FenceClosed closed;
    inner_.after_step(first, count, step);
  }

 private:
  StepHook<T>& inner_;
};

template <class T>
class FencedAttention final : public AttentionMemory<T> {
 public:
  explicit FencedAttention(std::unique_ptr<AttentionMemory<T>> inner) : inner_(std::move(inner)) {}
  void pack(const Run& run, const T* v, Arena& scratch) override {
    const FenceOpen open;
    inner_->pack(run, v, scratch);
  }
  void begin_backward(Arena& scratch) override { inner_->begin_backward(scratch); }
  ptrdiff_t queries_at_once() const override { return inner_->queries_at_once(); }
  void forward(const AttentionCall<T>& call, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin,
               ptrdiff_t count) const override {
    const FenceOpen open;
    inner_->forward(call, row, memory_row, begin, count);
  }
  void backward(const AttentionCall<T>& call, ptrdiff_t row, ptrdiff_t memory_row, ptrdiff_t begin,
                ptrdiff_t count) const override {
    const FenceOpen open;
    inner_->backward(call, row, memory_row, begin, count);
  }
  void memory_gradient(const Run& run, const AttentionCall<T>& call, ptrdiff_t row, ptrdiff_t memory_row,
                       ptrdiff_t count, Sequence<T> dkeys, Sequence<T> dx, T* scratch) const override {
    const FenceOpen open;
    inner_->memory_gradient(run, call, row, memory_row, count, dkeys, dx, scratch);
  }
  ptrdiff_t scratch_size(ptrdiff_t count) const override { return inner_->scratch_size(count); }
  void add_v_gradient(T* gradient) const override {
    const FenceOpen open;
    inner_->add_v_gradient(gradient);
  }

 private:
  std::unique_ptr<AttentionMemory<T>> inner_;
};

template <class T>
class FencedDevice final : public Device<T> {
 public:
  const char* name() const override { return "fenced"; }
  const CellInfo& cell(CellKind kind) const override { return inner_.cell(kind); }
  StorageKind storage(const std::string& name) const override { return inner_.storage(name); }
  ptrdiff_t packed_size(ptrdiff_t k, ptrdiff_t columns) const override { return inner_.packed_size(k, columns); }
  TapeBytes tape_bytes(const RecurrentSpec& spec, const Batch& batch, bool training) const override {
    return inner_.tape_bytes(spec, batch, training);
  }
  std::unique_ptr<RecurrentStep<T>> prepare_step(const RecurrentSpec& spec, ptrdiff_t rows) const override {
    const FenceOpen open;
    return std::make_unique<FencedStep<T>>(inner_.prepare_step(spec, rows));
  }
  std::unique_ptr<AttentionMemory<T>> attention_memory(const AttentionInput<T>& input, Arena& memory) const override {
    return std::make_unique<FencedAttention<T>>(inner_.attention_memory(input, memory));
  }
  void forward(const Run& run, const RecurrentForward<T>& call) const override {
    hooked(run, call, [&](const RecurrentForward<T>& fenced) { inner_.forward(run, fenced); });
  }
  void record(const Run& run, const RecurrentForward<T>& call, RecurrentTape<T>& tape) const override {
    hooked(run, call, [&](const RecurrentForward<T>& fenced) { inner_.record(run, fenced, tape); });
  }
  std::unique_ptr<RecurrentTape<T>> take_tape(const RecurrentForward<T>& call, bool training,
                                              Memory& memory) const override {
    return inner_.take_tape(call, training, memory);
  }
  void backward(const Run& run, const RecurrentBackward<T>& call, RecurrentTape<T>& tape) const override {
    hooked(run, call, [&](const RecurrentBackward<T>& fenced) { inner_.backward(run, fenced, tape); });
  }
  std::unique_ptr<RecurrentWeights<T>> pack(const RecurrentPacking<T>& call, Arena memory) const override {
    const FenceOpen open;
    return inner_.pack(call, std::move(memory));
  }
  bool read_tape(const RecurrentSpec& spec, const RecurrentTape<T>& tape, size_t index,
                 const RecurrentActivity<T>& to) const override {
    const FenceOpen open;
    return inner_.read_tape(spec, tape, index, to);
  }
  void add_gradient(const RecurrentSpec& spec, const std::vector<RecurrentOffsets>& offsets,
                    const RecurrentTape<T>& tape, T* gradient, int threads) const override {
    const FenceOpen open;
    return inner_.add_gradient(spec, offsets, tape, gradient, threads);
  }
  void pack_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed, T* packed) const override {
    const FenceOpen open;
    return inner_.pack_matrix(plain, k, columns, transposed, packed);
  }
  StoredMatrix<T> store_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed, StorageKind kind,
                               Arena& memory) const override {
    const FenceOpen open;
    return inner_.store_matrix(plain, k, columns, transposed, kind, memory);
  }
  void product(const Run& run, const Batch& batch, ptrdiff_t k, ptrdiff_t columns, StoredMatrix<T> packed,
               const T* bias, Sequence<const T> x, Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.product(run, batch, k, columns, packed, bias, x, y);
  }
  void multiply(const ProductCall<T>& call) const override {
    const FenceOpen open;
    return inner_.multiply(call);
  }
  void outer(const Run& run, const Batch& batch, ptrdiff_t in, ptrdiff_t out, Sequence<const T> x, Sequence<const T> dy,
             T* gradient, T* bias_gradient) const override {
    const FenceOpen open;
    return inner_.outer(run, batch, in, out, x, dy, gradient, bias_gradient);
  }
  void dropout(const Run& run, const Batch& batch, ptrdiff_t features, double p, uint64_t stream, bool one_mask,
               Sequence<const T> x, Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.dropout(run, batch, features, p, stream, one_mask, x, y);
  }
  void copy(const Copy<T>& call) const override {
    const FenceOpen open;
    return inner_.copy(call);
  }
  void fill(const Batch& batch, ptrdiff_t features, T value, Sequence<T> to) const override {
    const FenceOpen open;
    return inner_.fill(batch, features, value, to);
  }
  void add(const Batch& batch, ptrdiff_t features, Sequence<const T> from, Sequence<T> to) const override {
    const FenceOpen open;
    return inner_.add(batch, features, from, to);
  }
  void sum_each_row(const Run& run, const Batch& batch, ptrdiff_t features, Sequence<const T> x,
                    Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.sum_each_row(run, batch, features, x, y);
  }
  void look_up(const Lookup& call, const T* table, Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.look_up(call, table, y);
  }
  void pack_valid(const Batch& batch, ptrdiff_t features, Sequence<const T> x, T* to) const override {
    const FenceOpen open;
    return inner_.pack_valid(batch, features, x, to);
  }
  void add_to_table(const Lookup& call, const T* packed, T* table) const override {
    const FenceOpen open;
    return inner_.add_to_table(call, packed, table);
  }
  void keep_past(const PastInputs<T>& call) const override {
    const FenceOpen open;
    return inner_.keep_past(call);
  }
  void keep_past_gradient(const ConvolutionSpec& spec, const Batch& batch, StateRows<const T> dfinal, Sequence<T> dx,
                          StateRows<T> dstate) const override {
    const FenceOpen open;
    return inner_.keep_past_gradient(spec, batch, dfinal, dx, dstate);
  }
  void zero_padding(const Batch& batch, ptrdiff_t features, Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.zero_padding(batch, features, y);
  }
  void convolve(const Run& run, const ConvolutionForward<T>& call) const override {
    const FenceOpen open;
    return inner_.convolve(run, call);
  }
  void convolve_gradient(const Run& run, const ConvolutionBackward<T>& call) const override {
    const FenceOpen open;
    return inner_.convolve_gradient(run, call);
  }
  void activation(const Run& run, const Batch& batch, ptrdiff_t features, int kind, Sequence<const T> x,
                  Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.activation(run, batch, features, kind, x, y);
  }
  void activation_gradient(const Run& run, const Batch& batch, ptrdiff_t features, int kind, Sequence<const T> x,
                           Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) const override {
    const FenceOpen open;
    return inner_.activation_gradient(run, batch, features, kind, x, y, dy, dx);
  }
  void prelu(const Run& run, const Batch& batch, ptrdiff_t features, const T* slopes, Sequence<const T> x,
             Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.prelu(run, batch, features, slopes, x, y);
  }
  void prelu_gradient(const Run& run, const Batch& batch, ptrdiff_t features, const T* slopes, Sequence<const T> x,
                      Sequence<const T> dy, Sequence<T> dx, T* dslopes) const override {
    const FenceOpen open;
    return inner_.prelu_gradient(run, batch, features, slopes, x, dy, dx, dslopes);
  }
  void layer_norm(const Run& run, const Batch& batch, ptrdiff_t features, T eps, const T* gain, const T* shift,
                  Sequence<const T> x, Sequence<T> y, Sequence<T> statistics) const override {
    const FenceOpen open;
    return inner_.layer_norm(run, batch, features, eps, gain, shift, x, y, statistics);
  }
  void layer_norm_gradient(const Run& run, const Batch& batch, ptrdiff_t features, const T* gain,
                           Sequence<const T> statistics, Sequence<const T> x, Sequence<const T> dy, Sequence<T> dx,
                           T* dgain, T* dshift) const override {
    const FenceOpen open;
    return inner_.layer_norm_gradient(run, batch, features, gain, statistics, x, dy, dx, dgain, dshift);
  }
  void feature_statistics(const Run& run, const Batch& batch, ptrdiff_t features, Sequence<const T> x, T* mean,
                          T* variance) const override {
    const FenceOpen open;
    return inner_.feature_statistics(run, batch, features, x, mean, variance);
  }
  void feature_norm(const Run& run, const Batch& batch, ptrdiff_t features, const FeatureNorm<T>& norm, const T* shift,
                    Sequence<const T> x, Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.feature_norm(run, batch, features, norm, shift, x, y);
  }
  void feature_norm_gradient(const Run& run, const Batch& batch, ptrdiff_t features, const FeatureNorm<T>& norm,
                             bool of_batch, Sequence<const T> x, Sequence<const T> dy, Sequence<T> dx, T* dgain,
                             T* dshift) const override {
    const FenceOpen open;
    return inner_.feature_norm_gradient(run, batch, features, norm, of_batch, x, dy, dx, dgain, dshift);
  }
  void group_norm(const Run& run, const GroupNorms<T>& call, const T* shift, Sequence<const T> x,
                  Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.group_norm(run, call, shift, x, y);
  }
  void group_norm_gradient(const Run& run, const GroupNorms<T>& call, Sequence<const T> x, Sequence<const T> dy,
                           Sequence<T> dx, T* dgain, T* dshift) const override {
    const FenceOpen open;
    return inner_.group_norm_gradient(run, call, x, dy, dx, dgain, dshift);
  }
  void sum_valid(const Run& run, const Batch& batch, ptrdiff_t features, Sequence<const T> x, T* total) const override {
    const FenceOpen open;
    return inner_.sum_valid(run, batch, features, x, total);
  }
  void log_softmax(const T* x, T* y, ptrdiff_t n) const override {
    const FenceOpen open;
    return inner_.log_softmax(x, y, n);
  }
  void merge(const Run& run, const Merging<T>& call, Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.merge(run, call, y);
  }
  void merge_gradient(const Run& run, const Merging<T>& call, Sequence<const T> dy) const override {
    const FenceOpen open;
    return inner_.merge_gradient(run, call, dy);
  }
  void sgd(const SgdCall<T>& call) const override {
    const FenceOpen open;
    return inner_.sgd(call);
  }
  void adam(const AdamCall<T>& call) const override {
    const FenceOpen open;
    return inner_.adam(call);
  }
  void rmsprop(const RmspropCall<T>& call) const override {
    const FenceOpen open;
    return inner_.rmsprop(call);
  }
  Clipped sum_squares(const Numbers<T>& numbers, T scale, T limit) const override {
    const FenceOpen open;
    return inner_.sum_squares(numbers, scale, limit);
  }
  double peak(const Numbers<T>& numbers) const override {
    const FenceOpen open;
    return inner_.peak(numbers);
  }
  double label_loss(const LabelLoss<T>& call) const override {
    const FenceOpen open;
    return inner_.label_loss(call);
  }
  double step_loss(const StepLoss<T>& call) const override {
    const FenceOpen open;
    return inner_.step_loss(call);
  }
  double ctc(const CtcLoss<T>& call) const override {
    const FenceOpen open;
    return inner_.ctc(call);
  }
  double crf(const CrfLoss<T>& call) const override {
    const FenceOpen open;
    return inner_.crf(call);
  }
  void crf_viterbi(const Batch& batch, const Chain& chain, Sequence<const T> scores, int64_t* tags, double* scores_of,
                   Stop* stop) const override {
    const FenceOpen open;
    return inner_.crf_viterbi(batch, chain, scores, tags, scores_of, stop);
  }
  void crf_marginals(const Batch& batch, const Chain& chain, Sequence<const T> scores, Sequence<T> marginals,
                     Stop* stop) const override {
    const FenceOpen open;
    return inner_.crf_marginals(batch, chain, scores, marginals, stop);
  }
  void log_probabilities(const T* x, double* y, ptrdiff_t n) const override {
    const FenceOpen open;
    return inner_.log_probabilities(x, y, n);
  }
  void pool(const Run& run, const Batch& batch, ptrdiff_t features, PoolKind kind, Sequence<const T> x,
            Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.pool(run, batch, features, kind, x, y);
  }
  void pool_gradient(const Run& run, const Batch& batch, ptrdiff_t features, PoolKind kind, Sequence<const T> x,
                     Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) const override {
    const FenceOpen open;
    return inner_.pool_gradient(run, batch, features, kind, x, y, dy, dx);
  }
  void pool_windows(const Run& run, const PooledWindows<T>& call, Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.pool_windows(run, call, y);
  }
  void pool_windows_gradient(const Run& run, const PooledWindows<T>& call, Sequence<const T> y, Sequence<const T> dy,
                             Sequence<T> dx, StateRows<T> dpast) const override {
    const FenceOpen open;
    return inner_.pool_windows_gradient(run, call, y, dy, dx, dpast);
  }
  void attend(const Run& run, const Batch& batch, const Attend<T>& call, Sequence<T> y) const override {
    const FenceOpen open;
    return inner_.attend(run, batch, call, y);
  }
  void attend_gradient(const Run& run, const Batch& batch, const Attend<T>& call, Sequence<const T> dy, Sequence<T> du,
                       T* dv) const override {
    const FenceOpen open;
    return inner_.attend_gradient(run, batch, call, dy, du, dv);
  }
  void attend_input_gradient(const Run& run, const Batch& batch, const Attend<T>& call, Sequence<const T> dy,
                             Sequence<T> dx) const override {
    const FenceOpen open;
    return inner_.attend_input_gradient(run, batch, call, dy, dx);
  }

 private:
  template <class Call, class F>
  static void hooked(const Run& run, const Call& call, const F& f) {
    const FenceOpen open;
    if (!call.hook || run.threads > 1) return f(call);
    FencedHook<T> hook(*call.hook);
    Call fenced = call;
    fenced.hook = &hook;
    f(fenced);
  }

  const Device<T>& inner_ = cpu_device<T>();
};

inline const Devices& fenced_devices() {
  static const FencedDevice<float> f32;
  static const FencedDevice<double> f64;
  static const Devices devices = {f32, f64, fenced_memory(), &fence_gate()};
  return devices;
}

}  // namespace recurra
