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

// The spec with a call's number of features.
ConvolutionSpec with_features(ConvolutionSpec spec, ptrdiff_t features) {
  spec.in = spec.out = features;
  return spec;
}

}  // namespace

// The output, whose memory belongs to the program's tape.
template <class T>
struct WindowPool1d<T>::Tape : LayerTape<T> {
  Sequence<const T> y;
};

template <class T>
WindowPool1d<T>::WindowPool1d(const Devices& devices, const WindowPoolOptions& options)
    : Layer<T>(devices), kind_(options.mode == "max" ? PoolKind::kMax : PoolKind::kMean), spec_(checked_spec(options)) {
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
  if (has_state())
    run.device<T>().keep_past({&spec_, &call.batch, call.x.features, call.state, call.final_state, true});
  const ConvolutionSpec spec = with_features(spec_, call.features);
  run.device<T>().pool_windows(run, pooled(spec, call.batch, call.x.features, call.state), call.y);
}

template <class T>
std::unique_ptr<LayerTape<T>> WindowPool1d<T>::take_tape(const LayerForward<T>& call, bool, Memory&) const {
  auto tape = std::make_unique<Tape>();
  tape->y = read_only(call.y);
  return tape;
}

template <class T>
void WindowPool1d<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Memory&) {
  const bool carries = has_state();
  if (carries) fill_rows(run.device<T>(), call.batch.rows, past_size() + 1, T(0), call.dstate);
  if (call.dx.data) run.device<T>().fill(call.batch, call.features, T(0), call.dx);
  if (call.dy.data) {
    const ConvolutionSpec spec = with_features(spec_, call.features);
    run.device<T>().pool_windows_gradient(run, pooled(spec, call.batch, call.x.features, call.state),
                                          static_cast<Tape&>(tape).y, call.dy, call.dx,
                                          carries ? call.dstate : StateRows<T>{});
  }
  if (carries && call.dfinal.data)
    run.device<T>().keep_past_gradient(spec_, call.batch, call.dfinal, call.dx, call.dstate);
}

template class WindowPool1d<float>;
template class WindowPool1d<double>;

}  // namespace recurra
