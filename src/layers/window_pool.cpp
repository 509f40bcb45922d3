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
  if (!spec.image) spec.in = spec.out = features;
  return spec;
}

}  // namespace

// The output, whose memory belongs to the program's tape.
template <class T>
struct WindowPool<T>::Tape : LayerTape<T> {
  Sequence<const T> y;
};

template <class T>
WindowPool<T>::WindowPool(const Devices& devices, const char* operation, const std::string& mode,
                          const ConvolutionSpec& spec)
    : Layer<T>(devices), kind_(mode == "max" ? PoolKind::kMax : PoolKind::kMean), spec_(spec) {
  check(mode == "max" || mode == "mean", operation, "got mode '", mode, "', expected 'max' or 'mean'");
}

template <class T>
WindowPool1d<T>::WindowPool1d(const Devices& devices, const WindowPoolOptions& options)
    : WindowPool<T>(devices, "WindowPool1d", options.mode, checked_spec(options)) {}

// With less padding than a window every window has an input.
template <class T>
WindowPool2d<T>::WindowPool2d(const Devices& devices, const std::string& mode, const ImageOptions& options)
    : WindowPool<T>(devices, "WindowPool2d", mode,
                    image_spec("WindowPool2d", options, options.channels, [](ptrdiff_t span) { return span - 1; })),
      whole_(options.width > 0) {
  check(options.dilation == HeightAndWidth{1, 1}, "WindowPool2d", "got a dilation, expected none");
}

template <class T>
Batch WindowPool<T>::output_batch(const Batch& batch, Arena& memory) const {
  return window_batch(this->kind(), spec_, batch, memory);
}

template <class T>
bool WindowPool<T>::streamable() const {
  return keeps_steps(spec_) && spec_.right == 0 && (spec_.left == 0 || spec_.in > 0);
}

template <class T>
std::vector<StateSpec> WindowPool<T>::states() const {
  if (!has_state()) return {};
  return {{"past", spec_.left, spec_.in}, {"count", 1, 1}};
}

template <class T>
PooledWindows<T> WindowPool<T>::pooled(const ConvolutionSpec& spec, const Batch& batch, Sequence<const T> x,
                                       StateRows<const T> state) const {
  if (!has_state() || !state.data) return {&spec, &batch, kind_, x, {}, {}};
  return {&spec, &batch, kind_, x, state, {state.data + past_size(), state.stride}};
}

template <class T>
void WindowPool<T>::forward(const Run& run, const LayerForward<T>& call) {
  if (has_state())
    run.device<T>().keep_past({&spec_, &call.batch, call.x.features, call.state, call.final_state, true});
  const ConvolutionSpec spec = with_features(spec_, call.features);
  run.device<T>().pool_windows(run, pooled(spec, call.batch, call.x.features, call.state), call.y);
}

template <class T>
std::unique_ptr<LayerTape<T>> WindowPool<T>::take_tape(const LayerForward<T>& call, bool, Memory&) const {
  auto tape = std::make_unique<Tape>();
  tape->y = read_only(call.y);
  return tape;
}

template <class T>
void WindowPool<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& tape, Memory&) {
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

template class WindowPool<float>;
template class WindowPool<double>;
template class WindowPool1d<float>;
template class WindowPool1d<double>;
template class WindowPool2d<float>;
template class WindowPool2d<double>;

}  // namespace recurra
