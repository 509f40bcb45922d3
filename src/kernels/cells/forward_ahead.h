// The product with the input, computed ahead for a block of steps.
#pragma once
#include "kernels/cells/forward_scratch.h"

namespace recurra::RECURRA_ISA {
namespace {

// bias + W_ih x for the (step, row) pairs of a block, whose x have been copied to consecutive rows. Computed all at
// once, or in pieces beside a single row's recurrent products, which leave multiply units idle: they wait for weights.
template <class T>
class InputAhead {
 public:
  InputAhead() = default;
  InputAhead(const ForwardCall<T>& call, Range input, const T* x, ptrdiff_t x_stride, T* out, ptrdiff_t rows,
             ptrdiff_t first_strip, ptrdiff_t last_strip)
      : call_(&call),
        columns_(call.panels.columns / call.panels.strips),
        from_(input.begin * call.panels.units),
        x_(x),
        x_stride_(x_stride),
        out_(out),
        rows_(rows),
        strip_(first_strip),
        last_strip_(last_strip) {}

  // [row][panel][columns]
  const T* out() const { return out_; }

  // Whether a piece can be computed beside a product with `depth` rows of weights.
  bool pending(ptrdiff_t depth) const {
    return strip_ < last_strip_ && row_ + kBesideRows <= rows_ && depth >= share(depth);
  }
  // `own`: row r of one strip, as wide as the input's tiles.
  void make_beside(const Tile<T>& own, ptrdiff_t r) {
    const ptrdiff_t depth = own.segments->k, most = depth / share(depth), left = call_->input_size - k_;
    const ptrdiff_t k = left < most ? left : most;
    const Segment<T> segment = segment_of(k);
    multiply_beside(tiles(), own, r, tile(segment), row_, vectors(), share(depth));
    k_ += k;
    if (k_ == call_->input_size) next_tile();
  }

  // Computes the rest.
  void finish() {
    for (; strip_ < last_strip_; ++strip_, row_ = 0) finish_strip();
  }

 private:
  // Steps of the recurrent product for each of the input's: 4 keeps the multiply units and the path from the L2 cache
  // busy; 2 if the input is so large that the block would not be ready in time.
  int share(ptrdiff_t depth) const { return 4 * call_->input_size <= kBesideRows * depth ? 4 : 2; }

  const PackedWeights<T>& weights() const { return *call_->weights; }
  const Tiles<T>& tiles() const { return weights().storage->tiles; }
  int vectors() const { return int(weights().layout.width[0] / kLanes<T>); }
  Segment<T> segment_of(ptrdiff_t k) const {
    const PackedLayout& layout = weights().layout;
    return {x_ + k_, x_stride_, weights().strip(strip_) + layout.offset[0] + k_ * layout.row[0], k};
  }
  const T* bias() const { return weights().biases + strip_ * columns_ + from_; }
  // Goes on from the sum so far, which begins with the bias; with scales it begins with zero.
  Tile<T> tile(const Segment<T>& segment) const {
    const ptrdiff_t out_row = call_->panels.count * call_->panels.columns;
    T* out = out_ + row_ * out_row + strip_ * columns_ + from_;
    const T* begin = weights().scales.first ? nullptr : bias();
    return {&segment, 1, weights().layout.row[0], k_ ? out : begin, k_ ? out_row : 0, out, out_row};
  }
  // Completes the sums over k; with scales, adds them to the bias.
  void multiply_rows(ptrdiff_t rows) {
    const Segment<T> segment = segment_of(call_->input_size - k_);
    Tile<T> whole = tile(segment);
    Scales<T> scales;
    whole.scales = weights().scales_of(0, strip_, from_, scales);
    if (whole.scales) {
      scales.resumes = k_ > 0;
      whole.init = bias();
      whole.init_row = 0;
    }
    if (row_ == 0 && call_->far()) whole.next = static_cast<const char*>(segment.b) + weights().layout.strip;
    multiply(tiles(), whole, row_, int(rows), vectors());
    row_ += rows;
    k_ = 0;
  }
  void next_tile() {
    if (weights().scales.first) {
      multiply_rows(kBesideRows);
    } else {
      row_ += kBesideRows;
      k_ = 0;
    }
    if (row_ + kBesideRows <= rows_) return;
    finish_strip();
    ++strip_;
    row_ = 0;
  }
  void finish_strip() {
    if (k_) multiply_rows(kBesideRows);
    const ptrdiff_t begin = row_;
    const Split tiles = split(rows_ - begin, max_rows(vectors()));
    for (ptrdiff_t i = 0; i < tiles.tiles; ++i) multiply_rows(tiles.size(i));
  }

  const ForwardCall<T>* call_ = nullptr;
  ptrdiff_t columns_ = 0;  // of a strip
  ptrdiff_t from_ = 0;     // the input's first column
  const T* x_ = nullptr;
  ptrdiff_t x_stride_ = 0;
  T* out_ = nullptr;
  ptrdiff_t rows_ = 0;
  ptrdiff_t strip_ = 0, last_strip_ = 0, row_ = 0, k_ = 0;  // where the next piece begins
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
