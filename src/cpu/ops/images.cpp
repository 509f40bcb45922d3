#include "cpu/ops/images.h"

#include "cpu/device.h"

namespace recurra {
namespace {

// Outputs whose windows are gathered at once: some 256 KiB of float.
ptrdiff_t block_of(const ConvolutionSpec& spec) {
  return std::min<ptrdiff_t>(128, std::max<ptrdiff_t>(32, (ptrdiff_t(1) << 16) / spec.window()));
}

// dx and dpast of one piece: what each output's gradient gives to the inputs of its window, outputs ascending.
template <class T>
void image_gradient(const Run& run, const ConvolutionBackward<T>& call, const Piece& piece, ptrdiff_t most,
                    T* products) {
  const ConvolutionSpec& spec = *call.spec;
  const ptrdiff_t window = spec.window(), height = spec.rows.outputs(), width = spec.columns.outputs();
  for (ptrdiff_t s = 0; call.dx.data && s < piece.steps; ++s)
    std::fill_n(call.dx.at(piece.row, piece.begin + s), spec.in, T(0));
  for_each_block(spec, piece, call.dy, most, [&](ptrdiff_t begin, ptrdiff_t count) {
    if (stopped(run)) return;
    Place place = Place::of(spec, begin);
    // Without dx only the windows that reach before the piece matter.
    if (!call.dx.data && place.step * spec.stride >= spec.left) return;
    kernels<T>().product({count, spec.out_channels(), window, output_at(spec, piece, call.dy, begin),
                          spec.out_channels(), call.packed, nullptr, products, window});
    for (ptrdiff_t i = 0; i < count; ++i, place.advance(height, width))
      for_each_stretch(spec, piece.steps, place, [&](ptrdiff_t at, ptrdiff_t step, ptrdiff_t feature, ptrdiff_t n) {
        T* to = nullptr;
        if (step < 0 && piece.goes_on && call.dpast.data) to = call.dpast.at(piece.row) + (spec.left + step) * spec.in;
        if (step >= 0 && step != kOutside && call.dx.data) to = call.dx.at(piece.row, piece.begin + step);
        if (to) kernels<T>().rows.add_scaled(T(1), products + i * window + at, to + feature, n);
      });
  });
}

}  // namespace

template <class T>
void convolve_images(const Run& run, const ConvolutionForward<T>& call) {
  const ConvolutionSpec& spec = *call.spec;
  const ptrdiff_t window = spec.window(), out = spec.out_channels(), most = block_of(spec);
  const T* bias = padded_bias(run, call.bias, out);
  const Pieces pieces = take_pieces(run, *call.batch);
  const ImageBlocks blocks = take_blocks(run, spec, pieces, call.y, most);
  with_scratch<T>(run, blocks.count, most * window, [&](ptrdiff_t i, T* windows) {
    const ImageBlock& block = blocks.data[i];
    const Piece& piece = pieces.data[block.piece];
    gather_windows(spec, piece, block.begin, block.count, call.x, call.past, windows);
    kernels<T>().product({block.count, window, out, windows, window, call.packed, bias,
                          output_at(spec, piece, call.y, block.begin), out});
  });
}

template <class T>
void convolve_images_gradient(const Run& run, const ConvolutionBackward<T>& call) {
  const ConvolutionSpec& spec = *call.spec;
  const ptrdiff_t window = spec.window(), out = spec.out_channels();
  const Pieces pieces = take_pieces(run, *call.batch);
  if (call.gradient) {
    const ImageBlocks blocks = take_blocks(run, spec, pieces, call.dy, kOuterRows);
    T* scratch = run.arena.template take<T>(size_t(run.threads * kOuterRows * window));
    outer_sum(run, window, out, call.gradient, call.bias_gradient, [&](ptrdiff_t task, const auto& add) {
      T* const windows = scratch + task * kOuterRows * window;
      for (ptrdiff_t i = 0; i < blocks.count && !stopped(run); ++i) {
        const ImageBlock& block = blocks.data[i];
        const Piece& piece = pieces.data[block.piece];
        gather_windows(spec, piece, block.begin, block.count, call.x, call.past, windows);
        add(block.count, windows, window, output_at(spec, piece, call.dy, block.begin), out);
      }
    });
  }
  if (!call.dx.data && !call.dpast.data) return;
  const ptrdiff_t most = block_of(spec);
  with_scratch<T>(run, pieces.count, most * window, [&](ptrdiff_t i, T* products) {
    const Piece& piece = pieces.data[i];
    if (call.dx.data || piece.goes_on) image_gradient(run, call, piece, most, products);
  });
}

#define RECURRA_INSTANCES(T)                                               \
  template void convolve_images(const Run&, const ConvolutionForward<T>&); \
  template void convolve_images_gradient(const Run&, const ConvolutionBackward<T>&);
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
