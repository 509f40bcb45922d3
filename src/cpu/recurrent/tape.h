// The tape of a recurrent stack, and how it is made to fit a memory budget.
//
// Most of a tape are the values that the cells' equations save for BPTT. They follow from the inputs and the state that
// enters a step, so a tape may keep only that state at some steps (gradient checkpointing): backward then recomputes a
// stretch of steps right before its blocks, the last stretch first. The blocks are the same, and so are the bits of all
// gradients.
#pragma once
#include "cpu/plan.h"
#include "cpu/recurrent/shape.h"

namespace recurra {

// Stretch i is steps [bounds[i], bounds[i + 1]), whole blocks of a backward. The last one, which may be empty, is kept
// as it was recorded; the others are recomputed.
struct Stretches {
  std::vector<ptrdiff_t> bounds;

  explicit Stretches(const Rows& rows) : bounds{0, rows.steps} {}
  // The last `kept` blocks are kept as recorded, the others recomputed `together` at a time.
  Stretches(const Blocks& all, ptrdiff_t together, ptrdiff_t kept) {
    const std::vector<Block>& blocks = all.blocks;  // last first
    const ptrdiff_t n = ptrdiff_t(blocks.size());
    bounds = {blocks[0].end, kept ? blocks[size_t(kept - 1)].begin : blocks[0].end};
    for (ptrdiff_t i = kept; i < n; i += together)
      bounds.push_back(blocks[size_t(std::min(i + together, n) - 1)].begin);
    std::reverse(bounds.begin(), bounds.end());
  }

  ptrdiff_t count() const { return ptrdiff_t(bounds.size()) - 1; }
  ptrdiff_t begin(ptrdiff_t i) const { return bounds[size_t(i)]; }
  ptrdiff_t end(ptrdiff_t i) const { return bounds[size_t(i) + 1]; }
  bool empty(ptrdiff_t i) const { return begin(i) == end(i); }
  bool recorded(ptrdiff_t i) const { return i + 1 == count(); }
  int64_t tokens(const Rows& rows, ptrdiff_t i) const { return rows.offset[end(i)] - rows.offset[begin(i)]; }
  int64_t most_tokens_again(const Rows& rows) const {
    int64_t most = 0;
    for (ptrdiff_t i = 0; i + 1 < count(); ++i) most = std::max(most, tokens(rows, i));
    return most;
  }
};

// The values that one stretch of a layer's direction saves for BPTT.
template <class T>
struct SavedValues {
  T *saved, *cells, *norms;
};
template <class T>
SavedValues<T> take_saved(const Shape<T>& shape, int64_t tokens, Arena& memory) {
  const auto take = [&](bool there, ptrdiff_t size) {
    return there ? memory.take<T>(size_t(tokens) * size_t(size)) : nullptr;
  };
  const ptrdiff_t padded = shape.panels.padded();
  return {take(true, padded * shape.info.saved), take(shape.info.has_cell, padded),
          take(shape.spec.layer_norm, norm_row(shape.panels))};
}

// What the weights' gradient is made of, for the rows of a few steps: gate gradients, [panel][strip][ring row][columns
// of a strip], and the operand of each part of the weights, as BackwardCall has it.
template <class T>
struct Ring {
  T* gates;
  T* operands[3];
};

// Elements of an operand's row: with a one for the biases, or padded for an outer product.
template <class T>
ptrdiff_t operand_row(const Shape<T>& shape, ptrdiff_t inputs, int part, bool outer) {
  const ptrdiff_t depth = part == 0 ? inputs : part == 1 ? shape.state_size : shape.spec.hidden_size;
  return outer ? shape.vectors_of(depth) * shape.lanes : depth + (part < 2);
}

// If a batch has few rows in all its steps, backward leaves these factors, and their product is added where the
// gradient goes: the weights' memory is passed once for that, not five times. Sums of one short run have one order
// either way. Never where the factors are larger than the gradient.
constexpr ptrdiff_t kFactorRows = 64;
template <class T>
bool gradient_is_outer(const Shape<T>& shape, const Rows& rows) {
  if (rows.offset[rows.steps] > kFactorRows || shape.info.scanned || shape.spec.proj_size ||
      shape.vectors.gradient_size(shape.panels) > 0)
    return false;
  ptrdiff_t factors = 0, gradient = 0;
  for (ptrdiff_t layer = 0; layer < shape.spec.layers; ++layer) {
    gradient += shape.elements(shape.gradient_layout(layer));
    ptrdiff_t row = shape.panels.count * shape.panels.columns;
    for (int part = 0; part <= shape.info.stages; ++part)
      row += operand_row(shape, shape.input_size(layer), part, true);
    factors += Blocks::ring_of(rows) * row;
  }
  return factors <= gradient;
}

template <class T>
Ring<T> take_ring(const Shape<T>& shape, ptrdiff_t inputs, ptrdiff_t rows, bool outer, Arena& memory) {
  Ring<T> ring = {memory.take<T>(size_t(rows * shape.panels.count * shape.panels.columns)), {}};
  for (int part = 0; part <= shape.info.stages + (shape.spec.proj_size ? 1 : 0); ++part)
    ring.operands[part] = memory.take<T>(size_t(rows * operand_row(shape, inputs, part, outer)));
  return ring;
}

template <class T>
struct CpuTape : RecurrentTape<T> {
  Rows rows = {};  // in the host's memory
  Stretches stretches{Rows{}};
  std::vector<Sequence<const T>> x, y;                // [layer]
  std::vector<Sequence<T>> masked, between, dropped;  // [layer]; data null: unused
  std::vector<SavedValues<T>> saved;                  // [layer, direction], of the last stretch
  std::vector<T*> entering;                           // [layer, direction][stretch - 1][row][H]: c
  // Made by a backward:
  SavedValues<T> again = {};                                     // room to recompute one of the other stretches
  std::vector<T*> gradient, unit_gradient, projection_gradient;  // [layer, direction], packed
  std::vector<Ring<T>> factors;                                  // [layer, direction], of outer products instead

  // Finds what each layer reads and writes, given the input of the first and the output of the last one.
  void thread(Sequence<const T> input, Sequence<T> output) {
    for (size_t layer = 0; layer < between.size(); ++layer) {
      x.push_back(masked[layer].data ? read_only(masked[layer]) : input);
      y.push_back(read_only(layer + 1 < between.size() ? between[layer] : output));
      input = dropped[layer].data ? read_only(dropped[layer]) : y[layer];
    }
  }

  // c that enters stretch i > 0.
  StateRows<T> entering_c(const Shape<T>& shape, ptrdiff_t batch_rows, size_t index, ptrdiff_t i) const {
    const ptrdiff_t H = shape.spec.hidden_size;
    return {entering[index] + (i - 1) * batch_rows * H, H};
  }
};

// Allocates a forward's tape, except for the order of rows.
template <class T>
void take_tape(CpuTape<T>& tape, const Shape<T>& shape, ptrdiff_t batch_rows, bool training, Arena& memory) {
  const RecurrentSpec& spec = shape.spec;
  const Rows& rows = tape.rows;
  const Stretches& stretches = tape.stretches;
  const auto sequence = [&](bool there, ptrdiff_t features) {
    return there ? take_sequence<T>(memory, batch_rows, rows.steps, features) : Sequence<T>{};
  };
  for (ptrdiff_t layer = 0; layer < spec.layers; ++layer) {
    const bool last = layer + 1 == spec.layers;
    tape.masked.push_back(sequence(training && spec.input_dropout > 0, shape.input_size(layer)));
    tape.between.push_back(sequence(!last, shape.output_size));
    tape.dropped.push_back(sequence(!last && training && spec.dropout > 0, shape.output_size));
    for (ptrdiff_t d = 0; d < spec.directions; ++d) {
      tape.saved.push_back(take_saved(shape, stretches.tokens(rows, stretches.count() - 1), memory));
      const ptrdiff_t states = shape.info.has_cell ? stretches.count() - 1 : 0;
      tape.entering.push_back(states ? memory.take<T>(size_t(states * batch_rows * spec.hidden_size)) : nullptr);
    }
  }
}

// Allocates what a backward adds: the weights' gradients, zeroed unless the arena only counts, and room to recompute. A
// second attempt allocates it anew.
template <class T>
void take_gradients(CpuTape<T>& tape, const Shape<T>& shape, Arena& memory, int threads, bool counts = false) {
  const RecurrentSpec& spec = shape.spec;
  if (tape.stretches.count() > 1) tape.again = take_saved(shape, tape.stretches.most_tokens_again(tape.rows), memory);
  for (auto* gradients : {&tape.gradient, &tape.unit_gradient, &tape.projection_gradient}) gradients->clear();
  tape.factors.clear();
  const bool outer = gradient_is_outer(shape, tape.rows);
  const auto take = [&](std::vector<T*>& to, ptrdiff_t n) {
    to.push_back(n ? memory.take<T>(size_t(n)) : nullptr);
    if (n && !counts) clear(to.back(), n, threads);
  };
  for (ptrdiff_t layer = 0; layer < spec.layers; ++layer)
    for (ptrdiff_t d = 0; d < spec.directions; ++d) {
      if (outer)
        tape.factors.push_back(take_ring(shape, shape.input_size(layer), Blocks::ring_of(tape.rows), true, memory));
      take(tape.gradient, outer ? 0 : shape.elements(shape.gradient_layout(layer)));
      take(tape.unit_gradient, shape.vectors.gradient_size(shape.panels) * shape.panels.count);
      take(tape.projection_gradient,
           spec.proj_size ? shape.projection_panels() * shape.projection_width() * spec.hidden_size : 0);
    }
}

// The blocks of a backward. The gate gradients of a block should stay in the L2 cache; the weights' gradient is read
// and written once per block.
template <class T>
Blocks blocks_of(const Shape<T>& shape, const Rows& rows, ptrdiff_t batch_rows) {
  constexpr ptrdiff_t kBytes = 512 << 10, kLeastRows = 256, kMostRows = 512;
  const ptrdiff_t row_bytes = shape.panels.count * shape.panels.columns * ptrdiff_t(sizeof(T));
  return {rows, std::min(std::max(kBytes / row_bytes, kLeastRows), kMostRows), unit_group(batch_rows)};
}

// Chooses the stretches of a tape for a limit of bytes.
template <class T>
struct TapePlan {
  const Shape<T>& shape;
  const Rows& rows;
  ptrdiff_t batch_rows;
  bool training;

  size_t bytes(const Stretches& stretches) const {
    Arena count = Arena::counting();
    CpuTape<T> tape;
    tape.rows = rows;
    tape.stretches = stretches;
    take_rows(batch_rows, rows.steps, count);
    take_tape(tape, shape, batch_rows, training, count);
    take_gradients(tape, shape, count, 1, true);
    return count.used();
  }

  // The number of blocks to recompute at once that needs the fewest bytes: longer stretches need more room for values,
  // shorter ones keep more states.
  ptrdiff_t best_together(const Blocks& blocks) const {
    const ptrdiff_t n = ptrdiff_t(blocks.blocks.size());
    ptrdiff_t best = 1;
    size_t least = size_t(-1);
    for (ptrdiff_t k = 1; k <= n; k += std::max<ptrdiff_t>(1, k / 4)) {
      const size_t size = bytes({blocks, k, 0});
      if (size < least) least = size, best = k;
    }
    return best;
  }

  TapeBytes bounds() const {
    const size_t all = bytes(Stretches(rows));
    const Blocks blocks = blocks_of(shape, rows, batch_rows);
    return {all, std::min(all, bytes({blocks, best_together(blocks), 0}))};
  }

  // Keeps as many blocks as fit as they were recorded.
  Stretches within(size_t most) const {
    if (most == size_t(-1) || bytes(Stretches(rows)) <= most) return Stretches(rows);
    const Blocks blocks = blocks_of(shape, rows, batch_rows);
    const ptrdiff_t together = best_together(blocks);
    ptrdiff_t fits = 0, too_many = ptrdiff_t(blocks.blocks.size());
    while (too_many - fits > 1) {
      const ptrdiff_t kept = (fits + too_many) / 2;
      (bytes({blocks, together, kept}) <= most ? fits : too_many) = kept;
    }
    return {blocks, together, fits};
  }
};

}  // namespace recurra
