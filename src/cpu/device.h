// The CPU as a device: one file a group of operations.
#pragma once
#include "device/device.h"

namespace recurra {

template <class T>
class CpuDevice final : public Device<T> {
 public:
  const char* name() const override { return "cpu"; }
  const CellInfo& cell(CellKind kind) const override;
  StorageKind storage(const std::string& name) const override;
  std::unique_ptr<RecurrentWeights<T>> pack(const RecurrentPacking<T>& call, Arena memory) const override;
  void forward(const Run& run, const RecurrentForward<T>& call) const override;
  std::unique_ptr<RecurrentStep<T>> prepare_step(const RecurrentSpec& spec, ptrdiff_t rows) const override;
  void record(const Run& run, const RecurrentForward<T>& call, RecurrentTape<T>& tape) const override;
  std::unique_ptr<RecurrentTape<T>> take_tape(const RecurrentForward<T>& call, bool training,
                                              Memory& memory) const override;
  TapeBytes tape_bytes(const RecurrentSpec& spec, const Batch& batch, bool training) const override;
  void backward(const Run& run, const RecurrentBackward<T>& call, RecurrentTape<T>& tape) const override;
  bool read_tape(const RecurrentSpec& spec, const RecurrentTape<T>& tape, size_t index,
                 const RecurrentActivity<T>& to) const override;
  void add_gradient(const RecurrentSpec& spec, const std::vector<RecurrentOffsets>& offsets,
                    const RecurrentTape<T>& tape, T* gradient, int threads) const override;
  ptrdiff_t packed_size(ptrdiff_t k, ptrdiff_t columns) const override;
  void pack_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed, T* packed) const override;
  StoredMatrix<T> store_matrix(const T* plain, ptrdiff_t k, ptrdiff_t columns, bool transposed, StorageKind kind,
                               Arena& memory) const override;
  void product(const Run& run, const Batch& batch, ptrdiff_t k, ptrdiff_t columns, StoredMatrix<T> packed,
               const T* bias, Sequence<const T> x, Sequence<T> y) const override;
  void multiply(const ProductCall<T>& call) const override;
  void outer(const Run& run, const Batch& batch, ptrdiff_t in, ptrdiff_t out, Sequence<const T> x, Sequence<const T> dy,
             T* gradient, T* bias_gradient) const override;
  void dropout(const Run& run, const Batch& batch, ptrdiff_t features, double p, uint64_t stream, bool one_mask,
               Sequence<const T> x, Sequence<T> y) const override;
  void copy(const Copy<T>& call) const override;
  void fill(const Batch& batch, ptrdiff_t features, T value, Sequence<T> to) const override;
  void add(const Batch& batch, ptrdiff_t features, Sequence<const T> from, Sequence<T> to) const override;
  void sum_each_row(const Run& run, const Batch& batch, ptrdiff_t features, Sequence<const T> x,
                    Sequence<T> y) const override;
  void look_up(const Lookup& call, const T* table, Sequence<T> y) const override;
  void pack_valid(const Batch& batch, ptrdiff_t features, Sequence<const T> x, T* to) const override;
  void add_to_table(const Lookup& call, const T* packed, T* table) const override;
  void keep_past(const PastInputs<T>& call) const override;
  void keep_past_gradient(const ConvolutionSpec& spec, const Batch& batch, StateRows<const T> dfinal, Sequence<T> dx,
                          StateRows<T> dstate) const override;
  void zero_padding(const Batch& batch, ptrdiff_t features, Sequence<T> y) const override;
  void convolve(const Run& run, const ConvolutionForward<T>& call) const override;
  void convolve_gradient(const Run& run, const ConvolutionBackward<T>& call) const override;
  void activation(const Run& run, const Batch& batch, ptrdiff_t features, int kind, Sequence<const T> x,
                  Sequence<T> y) const override;
  void activation_gradient(const Run& run, const Batch& batch, ptrdiff_t features, int kind, Sequence<const T> x,
                           Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) const override;
  void prelu(const Run& run, const Batch& batch, ptrdiff_t features, const T* slopes, Sequence<const T> x,
             Sequence<T> y) const override;
  void prelu_gradient(const Run& run, const Batch& batch, ptrdiff_t features, const T* slopes, Sequence<const T> x,
                      Sequence<const T> dy, Sequence<T> dx, T* dslopes) const override;
  void layer_norm(const Run& run, const Batch& batch, ptrdiff_t features, T eps, const T* gain, const T* shift,
                  Sequence<const T> x, Sequence<T> y, Sequence<T> statistics) const override;
  void layer_norm_gradient(const Run& run, const Batch& batch, ptrdiff_t features, const T* gain,
                           Sequence<const T> statistics, Sequence<const T> x, Sequence<const T> dy, Sequence<T> dx,
                           T* dgain, T* dshift) const override;
  void feature_statistics(const Run& run, const Batch& batch, ptrdiff_t features, Sequence<const T> x, T* mean,
                          T* variance) const override;
  void feature_norm(const Run& run, const Batch& batch, ptrdiff_t features, const FeatureNorm<T>& norm, const T* shift,
                    Sequence<const T> x, Sequence<T> y) const override;
  void feature_norm_gradient(const Run& run, const Batch& batch, ptrdiff_t features, const FeatureNorm<T>& norm,
                             bool of_batch, Sequence<const T> x, Sequence<const T> dy, Sequence<T> dx, T* dgain,
                             T* dshift) const override;
  void group_norm(const Run& run, const GroupNorms<T>& call, const T* shift, Sequence<const T> x,
                  Sequence<T> y) const override;
  void group_norm_gradient(const Run& run, const GroupNorms<T>& call, Sequence<const T> x, Sequence<const T> dy,
                           Sequence<T> dx, T* dgain, T* dshift) const override;
  void sum_valid(const Run& run, const Batch& batch, ptrdiff_t features, Sequence<const T> x, T* total) const override;
  void log_softmax(const T* x, T* y, ptrdiff_t n) const override;
  void merge(const Run& run, const Merging<T>& call, Sequence<T> y) const override;
  void merge_gradient(const Run& run, const Merging<T>& call, Sequence<const T> dy) const override;
  void sgd(const SgdCall<T>& call) const override;
  void adam(const AdamCall<T>& call) const override;
  void rmsprop(const RmspropCall<T>& call) const override;
  Clipped sum_squares(const Numbers<T>& numbers, T scale, T limit) const override;
  double peak(const Numbers<T>& numbers) const override;
  double label_loss(const LabelLoss<T>& call) const override;
  double step_loss(const StepLoss<T>& call) const override;
  double ctc(const CtcLoss<T>& call) const override;
  double crf(const CrfLoss<T>& call) const override;
  void crf_viterbi(const Batch& batch, const Chain& chain, Sequence<const T> scores, int64_t* tags, double* scores_of,
                   Stop* stop) const override;
  void crf_marginals(const Batch& batch, const Chain& chain, Sequence<const T> scores, Sequence<T> marginals,
                     Stop* stop) const override;
  void log_probabilities(const T* x, double* y, ptrdiff_t n) const override;
  void pool(const Run& run, const Batch& batch, ptrdiff_t features, PoolKind kind, Sequence<const T> x,
            Sequence<T> y) const override;
  void pool_gradient(const Run& run, const Batch& batch, ptrdiff_t features, PoolKind kind, Sequence<const T> x,
                     Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx) const override;
  void pool_windows(const Run& run, const PooledWindows<T>& call, Sequence<T> y) const override;
  void pool_windows_gradient(const Run& run, const PooledWindows<T>& call, Sequence<const T> y, Sequence<const T> dy,
                             Sequence<T> dx, StateRows<T> dpast) const override;
  std::unique_ptr<AttentionMemory<T>> attention_memory(const AttentionInput<T>& input, Arena& memory) const override;
  void attend(const Run& run, const Batch& batch, const Attend<T>& call, Sequence<T> y) const override;
  void attend_gradient(const Run& run, const Batch& batch, const Attend<T>& call, Sequence<const T> dy, Sequence<T> du,
                       T* dv) const override;
  void attend_input_gradient(const Run& run, const Batch& batch, const Attend<T>& call, Sequence<const T> dy,
                             Sequence<T> dx) const override;
};

}  // namespace recurra
