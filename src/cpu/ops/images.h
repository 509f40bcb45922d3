// Convolutions over images as products: the windows of a block of outputs are gathered into scratch memory that stays
// in the cache, one behind the other, as rows of the product.
#pragma once
#include "cpu/ops/pieces.h"

namespace recurra {

// An output of a piece: a place in an output step.
struct Place {
  ptrdiff_t step, row, column;
  static Place of(const ConvolutionSpec& spec, ptrdiff_t output) {
    const ptrdiff_t width = spec.columns.outputs(), place = output % spec.places();
    return {output / spec.places(), place / width, place % width};
  }
  void advance(ptrdiff_t height, ptrdiff_t width) {
    if (++column < width) return;
    column = 0;
    if (++row < height) return;
    row = 0;
    ++step;
  }
};

constexpr ptrdiff_t kOutside = PTRDIFF_MAX;

// Calls f(first value of the window, input step, first feature, values) for stretches of an output's window that are
// contiguous in a step's features; the step is kOutside where the window reads zeros, and negative before the piece.
template <class F>
void for_each_stretch(const ConvolutionSpec& spec, ptrdiff_t steps, const Place& place, const F& f) {
  const ImageAxis &rows = spec.rows, &columns = spec.columns;
  const ptrdiff_t channels = spec.in_channels(), line = columns.kernel * channels;
  const ptrdiff_t first_column = place.column * columns.stride - columns.before;
  const ptrdiff_t first_row = place.row * rows.stride - rows.before;
  ptrdiff_t at = 0;
  for (ptrdiff_t k = 0; k < spec.kernel; ++k) {
    const ptrdiff_t step = place.step * spec.stride - spec.left + k * spec.dilation;
    for (ptrdiff_t j = 0; j < rows.kernel; ++j, at += line) {
      const ptrdiff_t row = first_row + j * rows.dilation, begin = row * columns.size;
      if (step >= steps || row < 0 || row >= rows.size) {
        f(at, kOutside, 0, line);
      } else if (columns.dilation == 1) {
        const ptrdiff_t before = std::min(columns.kernel, std::max<ptrdiff_t>(0, -first_column));
        const ptrdiff_t end = std::max(before, std::min(columns.kernel, columns.size - first_column));
        if (before) f(at, kOutside, 0, before * channels);
        if (before < end)
          f(at + before * channels, step, (begin + first_column + before) * channels, (end - before) * channels);
        if (end < columns.kernel) f(at + end * channels, kOutside, 0, (columns.kernel - end) * channels);
      } else {
        for (ptrdiff_t i = 0; i < columns.kernel; ++i) {
          const ptrdiff_t column = first_column + i * columns.dilation;
          const bool inside = column >= 0 && column < columns.size;
          f(at + i * channels, inside ? step : kOutside, (begin + column) * channels, channels);
        }
      }
    }
  }
}

// Outputs [begin, begin + count) of a piece, whose places in y are contiguous.
struct ImageBlock {
  ptrdiff_t piece, begin, count;
};

struct ImageBlocks {
  ImageBlock* data;
  ptrdiff_t count;
};

// Calls f(first output, count) for blocks of at most `most` outputs of a piece, which lie within a step unless the
// steps of y are contiguous.
template <class Y, class F>
void for_each_block(const ConvolutionSpec& spec, const Piece& piece, Sequence<Y> y, ptrdiff_t most, const F& f) {
  const ptrdiff_t places = spec.places(), all = spec.output_steps(piece.steps) * places;
  const ptrdiff_t unit = y.step_stride == spec.out ? all : places;
  for (ptrdiff_t begin = 0; begin < all; begin += unit)
    for (ptrdiff_t i = 0; i < unit; i += most) f(begin + i, std::min(most, unit - i));
}

template <class Y>
ImageBlocks take_blocks(const Run& run, const ConvolutionSpec& spec, const Pieces& pieces, Sequence<Y> y,
                        ptrdiff_t most) {
  ImageBlocks made = {nullptr, 0};
  for (ptrdiff_t p = 0; p < pieces.count; ++p)
    for_each_block(spec, pieces.data[p], y, most, [&](ptrdiff_t, ptrdiff_t) { ++made.count; });
  made.data = run.arena.template take<ImageBlock>(size_t(made.count));
  ImageBlock* next = made.data;
  for (ptrdiff_t p = 0; p < pieces.count; ++p)
    for_each_block(spec, pieces.data[p], y, most, [&](ptrdiff_t begin, ptrdiff_t count) {
      *next++ = {p, begin, count};
    });
  return made;
}

template <class Y>
Y* output_at(const ConvolutionSpec& spec, const Piece& piece, Sequence<Y> y, ptrdiff_t output) {
  // Several pieces in a row have an output for every input.
  return y.at(piece.row, piece.begin + output / spec.places()) + output % spec.places() * spec.out_channels();
}

template <class T>
void gather_windows(const ConvolutionSpec& spec, const Piece& piece, ptrdiff_t begin, ptrdiff_t count,
                    Sequence<const T> x, StateRows<const T> past, T* to) {
  const ptrdiff_t window = spec.window(), height = spec.rows.outputs(), width = spec.columns.outputs();
  Place place = Place::of(spec, begin);
  for (ptrdiff_t i = 0; i < count; ++i, to += window, place.advance(height, width))
    for_each_stretch(spec, piece.steps, place, [&](ptrdiff_t at, ptrdiff_t step, ptrdiff_t feature, ptrdiff_t n) {
      if (step != kOutside && step >= 0)
        std::copy_n(x.at(piece.row, piece.begin + step) + feature, n, to + at);
      else if (step < 0 && piece.goes_on && past.data)
        std::copy_n(past.at(piece.row) + (spec.left + step) * spec.in + feature, n, to + at);
      else
        std::fill_n(to + at, n, T(0));
    });
}

// CpuDevice::convolve() and convolve_gradient() of images.
template <class T>
void convolve_images(const Run&, const ConvolutionForward<T>&);
template <class T>
void convolve_images_gradient(const Run&, const ConvolutionBackward<T>&);

}  // namespace recurra
