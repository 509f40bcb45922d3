// Weights of convolutions, laid out as PyTorch's, and as the products with windows take them.
#pragma once
#include <vector>

#include "layers/packed.h"

namespace recurra {

// Calls f(place of a weight in PyTorch's order, in the window's) for all weights. PyTorch's are [channel][row][column],
// and of images whose columns are the steps the latter are the kernel's; a window's are [step][row][column][channel].
template <class F>
void for_each_weight(const ConvolutionSpec& spec, const F& f) {
  const ptrdiff_t channels = spec.in_channels(), places = spec.rows.kernel * spec.columns.kernel, taps = spec.taps();
  for (ptrdiff_t o = 0; o < spec.out_channels(); ++o)
    for (ptrdiff_t c = 0; c < channels; ++c)
      for (ptrdiff_t place = 0; place < places; ++place)
        for (ptrdiff_t step = 0; step < spec.kernel; ++step)
          f((o * channels + c) * taps + place * spec.kernel + step, (o * taps + step * places + place) * channels + c);
}

// The right side of the products that give the outputs or, `transposed`, of those that give the inputs' gradient. The
// bias, if wanted, is behind the weights.
template <class T>
std::unique_ptr<OwnedMatrix<T>> pack_windows(const Parameters<T>& parameters, const ConvolutionSpec& spec, bool bias,
                                             bool transposed, Arena memory) {
  const T* weight = parameters.values();
  const ptrdiff_t width = spec.window(), out = spec.out_channels();
  std::vector<T> ordered(static_cast<size_t>(width * out));
  {
    const HostAccess access(parameters.devices());
    for_each_weight(spec, [&](ptrdiff_t from, ptrdiff_t to) { ordered[size_t(to)] = weight[from]; });
  }
  return transposed ? pack_matrix(parameters.device(), ordered.data(), out, width, false,
                                  static_cast<const T*>(nullptr), std::move(memory))
                    : pack_matrix(parameters.device(), ordered.data(), width, out, true,
                                  bias ? weight + width * out : nullptr, std::move(memory));
}

// Adds a gradient whose weights are in the windows' order, and behind them the bias'.
template <class T>
void add_window_gradient(const Parameters<T>& parameters, const ConvolutionSpec& spec, const T* gradient,
                         Gradient<T>& to) {
  const HostAccess access(parameters.devices());
  T* grads = to.data();
  for_each_weight(spec, [&](ptrdiff_t own, ptrdiff_t from) { grads[own] += gradient[from]; });
  for (ptrdiff_t i = spec.window() * spec.out_channels(); i < parameters.size(); ++i) grads[i] += gradient[i];
}

}  // namespace recurra
