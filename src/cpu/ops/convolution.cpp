// Convolutions over steps as products. With x contiguous and no dilation the windows of neighbouring outputs lie in x
// as they are, one `stride` steps behind the other; at the edges of a row and for dilated kernels they are gathered,
// block by block of output steps, into scratch memory that stays in the cache.
#include "cpu/device.h"
#include "cpu/ops/images.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kWindowBlock = 128;  // output steps whose windows are gathered at once
constexpr ptrdiff_t kShortPiece = 64;    // shorter ones share a block where they can

// Outputs [begin, begin + count) of `pieces` pieces.
struct WindowBlock {
  ptrdiff_t piece, pieces, begin, count;
};

// Rows of a matrix.
template <class T>
struct View {
  const T* data;
  ptrdiff_t row;
};

// A call's pieces and blocks, and the windows of each.
template <class T>
class Windows {
 public:
  Windows(const Run& run, const ConvolutionSpec& spec, const Batch& batch, Sequence<const T> x, StateRows<const T> past)
      : spec_(spec), batch_(batch), x_(x), past_(past), pieces_(take_pieces(run, batch)) {}

  const Piece& piece(ptrdiff_t i) const { return pieces_.data[i]; }
  ptrdiff_t pieces() const { return pieces_.count; }
  ptrdiff_t outputs(ptrdiff_t i) const { return spec_.output_steps(piece(i).steps); }

  // Blocks of at most `most` outputs, for rows of y whose distance within a block is row_distance().
  template <class Y>
  WindowBlock* blocks(const Run& run, Sequence<Y> y, ptrdiff_t most, ptrdiff_t& count) {
    const ptrdiff_t each = pieces_.count ? outputs(0) : 0;
    // Rows alike, and y without gaps: several of them make a block.
    const bool together = each > 0 && each <= kShortPiece && pieces_.count == batch_.rows && !batch_.lengths &&
                          (each == 1 || y.row_stride == each * y.step_stride);
    const ptrdiff_t group = together ? most / each : 1;
    ptrdiff_t room = 0;
    for (ptrdiff_t i = 0; i < pieces_.count; i += group) room += (outputs(i) + most - 1) / most;
    WindowBlock* made = run.arena.template take<WindowBlock>(size_t(room));
    count = 0;
    for (ptrdiff_t i = 0; i < pieces_.count; i += group)
      for (ptrdiff_t begin = 0; begin < outputs(i); begin += most)
        made[count++] = {i, std::min(group, pieces_.count - i), begin, std::min(most, outputs(i) - begin)};
    return made;
  }
  template <class Y>
  static ptrdiff_t row_distance(const WindowBlock& block, Sequence<Y> y) {
    return block.count == 1 ? y.row_stride : y.step_stride;
  }
  // The first output's place: only where an output stands for every input are there several pieces in a row.
  template <class Y>
  Y* first_output(const WindowBlock& block, Sequence<Y> y) const {
    return y.at(piece(block.piece).row, piece(block.piece).begin + block.begin);
  }

  // Elements of scratch that windows() needs for blocks of `most` outputs.
  ptrdiff_t scratch(ptrdiff_t most) const { return (most + 1) * spec_.kernel * spec_.in; }
  View<T> windows(const WindowBlock& block, T* scratch) const {
    const ptrdiff_t width = spec_.kernel * spec_.in;
    const Piece& own = piece(block.piece);
    if (block.pieces == 1 && spec_.dilation == 1 && spec_.stride <= spec_.kernel) {
      const ptrdiff_t first = block.begin * spec_.stride - spec_.left;
      const ptrdiff_t steps = (block.count - 1) * spec_.stride + spec_.kernel;
      if (first >= 0 && first + steps <= own.steps && x_.step_stride == spec_.in)
        return {x_.at(own.row, own.begin + first), spec_.stride * spec_.in};
      copy(own, first, steps, scratch);
      return {scratch, spec_.stride * spec_.in};
    }
    T* to = scratch;
    for (ptrdiff_t p = block.piece; p < block.piece + block.pieces; ++p)
      for (ptrdiff_t i = block.begin; i < block.begin + block.count; ++i, to += width) {
        const ptrdiff_t first = i * spec_.stride - spec_.left;
        if (spec_.dilation == 1)
          copy(piece(p), first, spec_.kernel, to);
        else
          for (ptrdiff_t j = 0; j < spec_.kernel; ++j) copy(piece(p), first + j * spec_.dilation, 1, to + j * spec_.in);
      }
    return {scratch, width};
  }

 private:
  // Inputs [step, step + count) of a piece, also before its first and behind its last.
  void copy(const Piece& piece, ptrdiff_t step, ptrdiff_t count, T* to) const {
    const ptrdiff_t in = spec_.in, end = step + count;
    for (; step < std::min<ptrdiff_t>(end, 0); ++step, to += in) {
      if (piece.goes_on && past_.data)
        std::copy_n(past_.at(piece.row) + (spec_.left + step) * in, in, to);
      else
        std::fill_n(to, in, T(0));
    }
    const ptrdiff_t inside = std::min(end, piece.steps);
    if (step < inside && x_.step_stride == in) {
      to = std::copy_n(x_.at(piece.row, piece.begin + step), (inside - step) * in, to);
      step = inside;
    }
    for (; step < inside; ++step) to = std::copy_n(x_.at(piece.row, piece.begin + step), in, to);
    if (step < end) std::fill_n(to, (end - step) * in, T(0));
  }

  const ConvolutionSpec& spec_;
  const Batch& batch_;
  Sequence<const T> x_;
  StateRows<const T> past_;
  const Pieces pieces_;
};

// Input steps [begin, end) of a piece, whose gradient is one task.
struct InputPart {
  ptrdiff_t begin, end;
};

// dx of a part of a piece: what each output's gradient gives to the inputs of its window, outputs ascending. Outputs
// whose windows reach over the part's bounds are computed for its neighbours, too. The first part has dpast.
template <class T>
void input_gradient(const Run& run, const ConvolutionBackward<T>& call, const Piece& piece, const InputPart& part,
                    ptrdiff_t outputs, T* scratch) {
  const ConvolutionSpec& spec = *call.spec;
  const ptrdiff_t in = spec.in, width = spec.kernel * in;
  const auto add_scaled = kernels<T>().rows.add_scaled;
  if (call.dx.data)
    for (ptrdiff_t s = part.begin; s < part.end; ++s) std::fill_n(call.dx.at(piece.row, piece.begin + s), in, T(0));
  const ptrdiff_t before =
      part.begin + spec.left - spec.span() + 1;  // the window of output i begins at i * stride - left
  const ptrdiff_t first_output = part.begin > 0 && before > 0 ? (before + spec.stride - 1) / spec.stride : 0;
  if (part.end < piece.steps) outputs = std::min(outputs, (part.end - 1 + spec.left) / spec.stride + 1);
  for (ptrdiff_t begin = first_output; begin < outputs && !stopped(run); begin += kWindowBlock) {
    const ptrdiff_t count = std::min(kWindowBlock, outputs - begin);
    kernels<T>().product({count, spec.out, width, call.dy.at(piece.row, piece.begin + begin), call.dy.step_stride,
                          call.packed, nullptr, scratch, width});
    for (ptrdiff_t i = 0; i < count; ++i) {
      const T* window = scratch + i * width;
      const ptrdiff_t first = (begin + i) * spec.stride - spec.left;
      if (call.dx.data && spec.dilation == 1 && call.dx.step_stride == in && first >= part.begin &&
          first + spec.kernel <= part.end) {
        add_scaled(T(1), window, call.dx.at(piece.row, piece.begin + first), width);
        continue;
      }
      for (ptrdiff_t j = 0; j < spec.kernel; ++j) {
        const ptrdiff_t step = first + j * spec.dilation;
        if (step < 0 && part.begin == 0 && piece.goes_on && call.dpast.data)
          add_scaled(T(1), window + j * in, call.dpast.at(piece.row) + (spec.left + step) * in, in);
        if (step >= part.begin && step < part.end && call.dx.data)
          add_scaled(T(1), window + j * in, call.dx.at(piece.row, piece.begin + step), in);
      }
    }
  }
}

// Into how many parts each piece is divided, so that there is work for all threads: long rows only, as parts compute
// some of their neighbours' outputs.
ptrdiff_t input_parts(const Run& run, const ConvolutionSpec& spec, const Batch& batch, ptrdiff_t pieces) {
  const ptrdiff_t shortest = std::max<ptrdiff_t>(kWindowBlock * spec.stride, 8 * spec.span());
  if (pieces == 0 || pieces >= run.threads) return 1;
  return std::max<ptrdiff_t>(1, std::min<ptrdiff_t>((run.threads + pieces - 1) / pieces, batch.steps / shortest));
}

}  // namespace

template <class T>
void CpuDevice<T>::convolve(const Run& run, const ConvolutionForward<T>& call) const {
  const ConvolutionSpec& spec = *call.spec;
  if (spec.image) return convolve_images(run, call);
  const T* bias = padded_bias(run, call.bias, spec.out);
  Windows<T> windows(run, spec, *call.batch, call.x, call.past);
  ptrdiff_t count;
  const WindowBlock* blocks = windows.blocks(run, call.y, kWindowBlock, count);
  with_scratch<T>(run, count, windows.scratch(kWindowBlock), [&](ptrdiff_t i, T* scratch) {
    const View<T> from = windows.windows(blocks[i], scratch);
    kernels<T>().product({blocks[i].count * blocks[i].pieces, spec.kernel * spec.in, spec.out, from.data, from.row,
                          call.packed, bias, windows.first_output(blocks[i], call.y),
                          windows.row_distance(blocks[i], call.y)});
  });
}

template <class T>
void CpuDevice<T>::convolve_gradient(const Run& run, const ConvolutionBackward<T>& call) const {
  const ConvolutionSpec& spec = *call.spec;
  if (spec.image) return convolve_images_gradient(run, call);
  const ptrdiff_t width = spec.kernel * spec.in;
  Windows<T> windows(run, spec, *call.batch, call.x, call.past);
  if (call.gradient) {
    ptrdiff_t count;
    const WindowBlock* blocks = windows.blocks(run, call.dy, kOuterRows, count);
    const ptrdiff_t size = windows.scratch(kOuterRows);
    T* scratch = run.arena.template take<T>(size_t(run.threads * size));
    outer_sum(run, width, spec.out, call.gradient, call.bias_gradient, [&](ptrdiff_t task, const auto& add) {
      for (ptrdiff_t i = 0; i < count && !stopped(run); ++i) {
        const View<T> from = windows.windows(blocks[i], scratch + task * size);
        add(blocks[i].count * blocks[i].pieces, from.data, from.row, windows.first_output(blocks[i], call.dy),
            windows.row_distance(blocks[i], call.dy));
      }
    });
  }
  if (!call.dx.data && !call.dpast.data) return;
  // Without dx only the windows that reach before the row matter.
  const ptrdiff_t early = call.dx.data ? PTRDIFF_MAX : (spec.left + spec.stride - 1) / spec.stride;
  const ptrdiff_t parts = call.dx.data ? input_parts(run, spec, *call.batch, windows.pieces()) : 1;
  with_scratch<T>(run, windows.pieces() * parts, kWindowBlock * width, [&](ptrdiff_t i, T* products) {
    const Piece& piece = windows.piece(i / parts);
    const ptrdiff_t part = i % parts;
    if (call.dx.data || piece.goes_on)
      input_gradient(run, call, piece, {piece.steps * part / parts, piece.steps * (part + 1) / parts},
                     std::min(early, windows.outputs(i / parts)), products);
  });
}

#define RECURRA_INSTANCES(T)                                                            \
  template void CpuDevice<T>::convolve(const Run&, const ConvolutionForward<T>&) const; \
  template void CpuDevice<T>::convolve_gradient(const Run&, const ConvolutionBackward<T>&) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
