#include "layers/window_pool.h"

#include "layers/window.h"

namespace recurra {
namespace {

ConvolutionSpec checked_spec(const WindowPoolOptions& options) {
  constexpr const char* kName = "WindowPool1d";
  check_window_size(kName, "kernel_size", options.kernel_size);
  check_window_size(kName, "stride", options.stride);
  check(options.features >= 0 && options.features <= (ptrdiff_t(1) << 30) / options.kernel_size, kName, "features is ",
        options.features, ", expected 0 (any) to ", (ptrdiff_t(1) << 30) / options.kernel_size,
        " with this kernel_size; make one of them smaller");
  ConvolutionSpec spec = {options.features, options.features, options.kernel_size, options.stride, 1, 0, 0};
  set_padding(kName, options.padding, spec);
  return spec;
}

// The same for the features of a call.
ConvolutionSpec with_features(ConvolutionSpec spec, ptrdiff_t features) {
  spec.in = spec.out = features;
  return spec;
}

}  // namespace

// The output, which lies in the program's tape.
template <class T>
struct WindowPool1d<T>::Tape : LayerTape<T> {
  Sequence<const T> y;
};

template <class T>
WindowPool1d<T>::WindowPool1d(const WindowPoolOptions& options)
    : Layer<T>(std::vector<ParameterSpec>{}),
      kind_(options.mode == "max" ? PoolKind::kMax : PoolKind::kMean),
      spec_(checked_spec(options)) {
  check(options.mode == "max" || options.mode == "mean", "WindowPool1d", "got mode '", options.mode,
        "', expected 'max' or 'mean'");
}

template <class T>
Batch WindowPool1d<T>::output_batch(const Batch& batch, Arena& memory) const {
  return window_batch(kind(), spec_, batch, memory);
}

template <class T>
bool WindowPool1d<T>::streamable() const {
  return keeps_steps(spec_) && spec_.right == 0 && (spec_.left == 0 || spec_.in > 0);
}

template <class T>
std::vector<StateSpec> WindowPool1d<T>::states() const {
  if (!has_state()) return {};
  return {{"past", spec_.left, spec_.in}, {"count", 1, 1}};
}

template <class T>
WindowPool<T> WindowPool1d<T>::pooled(const ConvolutionSpec& spec, const Batch& batch, Sequence<const T> x,
                                      StateRows<const T> state) const {
  if (!has_state() || !state.data) return {&spec, &batch, kind_, x, {}, {}};
  return {&spec, &batch, kind_, x, state, {state.data + past_size(), state.stride}};
}

template <class T>
void WindowPool1d<T>::forward(const Run& run, const LayerForward<T>& call) {
  if (has_state()) {
    keep_past(spec_, call);
    for (ptrdiff_t r = 0; r < call.batch.rows; ++r) {
      const ptrdiff_t start = call.batch.last_reset(r), length = call.batch.length(r);
      const T before = start < 0 && call.state.data ? call.state.at(r)[past_size()] : T(0);
      call.final_state.at(r)[past_size()] = std::min(T(spec_.left), before + T(length - std::max<ptrdiff_t>(start, 0)));
    }
  }
  const ConvolutionSpec spec = with_features(spec_, call.features);
  run.device<T>().pool_windows(run, pooled(spec, call.batch, call.x.features, call.state), call.y);
}

template <class T>
std::unique_ptr<LayerTape<T>> WindowPool1d<T>::record(const Run& run, const LayerForward<T>& call, Arena&) {
  forward(run, call);
  auto tape = std::make_unique<Tape>();
  tape->y = read_only(call.y);
  return tape;
}

template <class T>
void WindowPool1d<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Arena&) {
  const bool carries = has_state();
  for (ptrdiff_t r = 0; r < call.batch.rows; ++r) {
    if (carries) std::fill_n(call.dstate.at(r), past_size() + 1, T(0));
    for (ptrdiff_t s = 0; call.dx.data && s < call.batch.length(r); ++s)
      std::fill_n(call.dx.at(r, s), call.features, T(0));
  }
  if (call.dy.data) {
    const ConvolutionSpec spec = with_features(spec_, call.features);
    run.device<T>().pool_windows_gradient(run, pooled(spec, call.batch, call.x.features, call.state),
                                          static_cast<Tape&>(tape).y, call.dy, call.dx,
                                          carries ? call.dstate : StateRows<T>{});
  }
  if (carries) keep_past_gradient(spec_, call);
}

template class WindowPool1d<float>;
template class WindowPool1d<double>;

}  // namespace recurra
