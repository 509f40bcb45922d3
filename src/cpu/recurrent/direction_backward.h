// BPTT through one layer and direction on the CPU.
#pragma once
#include <algorithm>

#include "cpu/recurrent/stretch_reader.h"

namespace recurra {

// One layer and direction backwards, block by block: first the chunks of rows in parallel, then the weights' panels.
template <class T>
struct DirectionBackward {
  const Shape<T>& shape;
  const Run& run;
  const Blocks& blocks;
  RowChunks chunks;
  ptrdiff_t layer;
  BackwardCall<T> call;  // all but the chunk of rows and the block of steps
  T *gradient, *unit_gradient, *projection_gradient;
  const T* ones;  // [unit row]
  StepHook<T>* hook;

  void run_blocks(const Stretches& stretches, const StretchReader<T>& reader) {
    T** scratch = run.arena.template take<T*>(size_t(chunks.count));
    for (ptrdiff_t i = 0; i < chunks.count; ++i)
      scratch[i] = run.arena.template take<T>(
          size_t(shape.cell.backward_scratch(shape.info, shape.panels, call.options, chunks.size(i))));
    ptrdiff_t stretch = stretches.count();
    for (const Block& block : blocks.blocks) {
      ptrdiff_t i = std::min(stretch, stretches.count() - 1);
      while (i > 0 && block.end <= stretches.begin(i)) --i;
      if (i < stretch) reader.enter(layer, i, call);
      stretch = i;
      if (run.stopped()) return;
      for_each_task(chunks.count, run.threads, [&](ptrdiff_t chunk) {
        BackwardCall<T> c = call;
        c.begin = block.begin;
        c.end = block.end;
        c.first = chunks.bounds[chunk];
        c.last = chunks.bounds[chunk + 1];
        c.scratch = scratch[chunk];
        if (hook && block.end > block.begin) return backward_by_step(c);
        shape.cell.backward(c);
      });
      if (run.stop) run.stop->poll();  // the loop may be too short to poll by itself
      if (run.stopped()) return;
      if (!call.outer) add_block(block);
    }
  }

  // Runs the steps of a block one by one, with the hook between them.
  void backward_by_step(const BackwardCall<T>& block) const {
    BackwardCall<T> c = block;
    for (c.begin = block.end - 1; c.begin >= block.begin; --c.begin) {
      if (run.stop && run.stop->poll()) return;
      c.end = c.begin + 1;
      const ptrdiff_t active = std::min<ptrdiff_t>(c.last, c.rows.active[c.begin]) - c.first;
      if (active > 0) hook->before_step(c.first, active, c.begin);
      shape.cell.backward(c);
      if (active > 0) hook->after_step(c.first, active, c.begin);
    }
  }

  void add_block(const Block& block) const {
    const PackedLayout layout = shape.gradient_layout(layer);
    const ptrdiff_t parts = shape.info.stages + 1, strips = shape.panels.count * layout.strips;
    const ptrdiff_t columns = shape.panels.columns / layout.strips;
    const ptrdiff_t pieces = std::max<ptrdiff_t>(1, 4 * (run.threads - 1) / (parts * strips) + 1);
    for_each_task(parts * strips * pieces, run.threads, [&](ptrdiff_t task) {
      const ptrdiff_t piece = task % pieces, strip = task / pieces / parts;
      const int part = int(task / pieces % parts);
      const Range range = part ? shape.info.recurrent[part - 1] : shape.info.input;
      const ptrdiff_t tiles = kernels<T>().operand_tiles(layout.rows[part], layout.width[part]);
      const T* gates = part == 0 && spec().layer_norm ? call.input_gates : call.gates;
      GradientCall<T> c = gradient_call(block, call.operands[part], layout.rows[part]);
      c.gates = gates + strip * call.ring_rows * columns + range.begin * shape.panels.units;
      c.gates_row = columns;
      c.width = layout.width[part];
      c.first = tiles * piece / pieces;
      c.last = tiles * (piece + 1) / pieces;
      c.out = gradient + layout.begin<T>(0, part, strip);
      kernels<T>().gradient(c);
    });
    add_options(block);
  }

  const RecurrentSpec& spec() const { return shape.spec; }
  GradientCall<T> gradient_call(const Block& block, const T* operand, ptrdiff_t rows) const {
    GradientCall<T> c = {};
    c.operand = operand;
    c.ring_rows = call.ring_rows;
    c.runs = block.runs.data();
    c.run_count = ptrdiff_t(block.runs.size());
    c.rows = rows;
    return c;
  }

  void add_options(const Block& block) const {
    const ptrdiff_t size = shape.vectors.gradient_size(shape.panels), width = shape.projection_width();
    const RingRun groups = {0, block.groups};
    if (unit_gradient)  // a column's sum is its product with ones
      for_each_task(shape.panels.count, run.threads, [&](ptrdiff_t panel) {
        GradientCall<T> c = gradient_call(block, ones, 1);
        c.runs = &groups;
        c.run_count = 1;
        c.gates_row = size;
        c.last = 1;
        for (ptrdiff_t k = 0; k < size; k += c.width) {
          c.width = std::min(kernels<T>().tile_vectors * shape.lanes, size - k);
          c.gates = call.unit_sums + panel * call.unit_rows * size + k;
          c.out = unit_gradient + panel * size + k;
          kernels<T>().gradient(c);
        }
      });
    if (projection_gradient)
      for_each_task(shape.projection_panels(), run.threads, [&](ptrdiff_t panel) {
        GradientCall<T> c = gradient_call(block, call.operands[2], spec().hidden_size);
        c.gates = call.projected + panel * width;
        c.gates_row = call.projected_row;
        c.width = width;
        c.last = kernels<T>().operand_tiles(spec().hidden_size, width);
        c.out = projection_gradient + panel * spec().hidden_size * width;
        kernels<T>().gradient(c);
      });
  }
};

}  // namespace recurra
