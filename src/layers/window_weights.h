// Weights of convolutions, laid out as PyTorch's, and as the products with windows take them.
#pragma once
#include <vector>

#include "layers/packed.h"

namespace recurra {

// Raises unless `groups` divides both numbers of channels.
inline void check_groups(const char* operation, ptrdiff_t groups, ptrdiff_t in_channels, ptrdiff_t out_channels) {
  check(groups >= 1 && in_channels % groups == 0 && out_channels % groups == 0, operation, "groups is ", groups,
        " for ", in_channels, " and ", out_channels, " channels, expected a divisor of both");
}

// Weights of a convolution in groups: each output channel has those of its group's input channels only.
inline ptrdiff_t weight_count(const ConvolutionSpec& spec, ptrdiff_t groups) {
  return spec.out_channels() * spec.window() / groups;
}

// Calls f(place of a weight in PyTorch's order, in the window's) for all weights. PyTorch's are [channel][row][column],
// and of images whose columns are the steps the latter are the kernel's; a window's are [step][row][column][channel],
// with places for the channels of other groups.
template <class F>
void for_each_weight(const ConvolutionSpec& spec, ptrdiff_t groups, const F& f) {
  const ptrdiff_t channels = spec.in_channels(), places = spec.rows.kernel * spec.columns.kernel, taps = spec.taps();
  const ptrdiff_t own = channels / groups, outputs = spec.out_channels() / groups;
  for (ptrdiff_t o = 0; o < spec.out_channels(); ++o)
    for (ptrdiff_t c = 0; c < own; ++c)
      for (ptrdiff_t place = 0; place < places; ++place)
        for (ptrdiff_t step = 0; step < spec.kernel; ++step)
          f((o * own + c) * taps + place * spec.kernel + step,
            (o * taps + step * places + place) * channels + o / outputs * own + c);
}

// The right side of the products that give the outputs or, `transposed`, of those that give the inputs' gradient. The
// bias, if wanted, is behind the weights. Between groups there are zeros.
template <class T>
std::unique_ptr<OwnedMatrix<T>> pack_windows(const Parameters<T>& parameters, const ConvolutionSpec& spec,
                                             ptrdiff_t groups, bool bias, bool transposed, Arena memory) {
  const T* weight = parameters.values();
  const ptrdiff_t width = spec.window(), out = spec.out_channels();
  std::vector<T> ordered(static_cast<size_t>(width * out));
  {
    const HostAccess access(parameters.devices());
    for_each_weight(spec, groups, [&](ptrdiff_t from, ptrdiff_t to) { ordered[size_t(to)] = weight[from]; });
  }
  return transposed ? pack_matrix(parameters.device(), ordered.data(), out, width, false,
                                  static_cast<const T*>(nullptr), std::move(memory))
                    : pack_matrix(parameters.device(), ordered.data(), width, out, true,
                                  bias ? weight + weight_count(spec, groups) : nullptr, std::move(memory));
}

// A gradient whose weights are in the windows' order, and behind them the bias': its size; taken, zeroed.
template <class T>
ptrdiff_t window_gradient_size(const Parameters<T>& parameters, const ConvolutionSpec& spec, ptrdiff_t groups) {
  return spec.out_channels() * spec.window() + parameters.size() - weight_count(spec, groups);
}
template <class T>
T* start_window_gradient(FlatTape<T>& tape, const Parameters<T>& parameters, const ConvolutionSpec& spec,
                         ptrdiff_t groups, Memory& memory) {
  const ptrdiff_t size = window_gradient_size(parameters, spec, groups);
  tape.gradient = memory.device.take<T>(size_t(size));
  fill_flat(parameters.device(), tape.gradient, size, T(0));
  return tape.gradient;
}

// Adds such a gradient, but for what it has between groups.
template <class T>
void add_window_gradient(const Parameters<T>& parameters, const ConvolutionSpec& spec, ptrdiff_t groups,
                         const T* gradient, Gradient<T>& to) {
  const HostAccess access(parameters.devices());
  T* grads = to.data();
  for_each_weight(spec, groups, [&](ptrdiff_t own, ptrdiff_t from) { grads[own] += gradient[from]; });
  const ptrdiff_t weights = weight_count(spec, groups), behind = spec.out_channels() * spec.window() - weights;
  for (ptrdiff_t i = weights; i < parameters.size(); ++i) grads[i] += gradient[behind + i];
}

}  // namespace recurra
