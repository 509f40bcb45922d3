// How a call of a recurrent stack is cut up: rows sorted by length, tasks of whole rows, blocks of steps for BPTT.
#pragma once
#include <algorithm>
#include <numeric>
#include <vector>

#include "device/device.h"
#include "kernels/cells/call.h"

namespace recurra {

struct RowArrays {
  int32_t *order, *length, *active;
  int64_t* offset;
};
inline RowArrays take_rows(ptrdiff_t rows, ptrdiff_t steps, Arena& memory) {
  int32_t *order = memory.take<int32_t>(size_t(rows)), *length = memory.take<int32_t>(size_t(rows));
  int32_t* active = memory.take<int32_t>(size_t(steps) + 1);
  return {order, length, active, memory.take<int64_t>(size_t(steps) + 1)};
}

// Lives in the arena that the caller names, so that it can belong to a tape or to a call.
inline Rows sort_rows(const Batch& batch, Arena& memory) {
  const size_t n = size_t(batch.rows);
  ptrdiff_t steps = 0;
  for (ptrdiff_t r = 0; r < batch.rows; ++r) steps = std::max(steps, batch.length(r));
  const auto [order, length, active, offset] = take_rows(batch.rows, steps, memory);
  std::iota(order, order + n, 0);
  if (batch.lengths)
    std::stable_sort(order, order + n, [&](int32_t a, int32_t b) { return batch.lengths[a] > batch.lengths[b]; });
  for (size_t r = 0; r < n; ++r) length[r] = int32_t(batch.length(order[r]));
  int64_t sum = 0;
  for (ptrdiff_t s = 0, running = batch.rows; s <= steps; ++s) {
    while (running > 0 && length[running - 1] <= s) --running;
    active[s] = int32_t(running);
    offset[s] = sum;
    sum += running;
  }
  return {order, length, active, offset, steps, batch.reset, batch.reset_row, batch.reset_step};
}

// Chunk i is rows [bounds[i], bounds[i + 1]), at least one.
struct RowChunks {
  ptrdiff_t count;
  const ptrdiff_t* bounds;
  ptrdiff_t size(ptrdiff_t i) const { return bounds[i + 1] - bounds[i]; }
};

// At most `most` chunks of whole groups of rows, with about equally many steps each. Long rows, or none with steps,
// make them fewer; without rows there is no chunk.
inline RowChunks row_chunks(const Rows& rows, ptrdiff_t all_rows, ptrdiff_t most, Arena& memory, ptrdiff_t group = 1) {
  ptrdiff_t* bounds = memory.take<ptrdiff_t>(size_t(most) + 1);
  const int64_t tokens = rows.offset[rows.steps];
  int64_t sum = 0;
  ptrdiff_t row = 0, count = 0;
  bounds[0] = 0;
  for (ptrdiff_t i = 1; i <= most && bounds[count] < all_rows; ++i) {
    while (row < all_rows && sum * most < tokens * i) sum += rows.length[row++];
    const ptrdiff_t end = i == most ? all_rows : std::min((row + group - 1) / group * group, all_rows);
    if (end > bounds[count]) bounds[++count] = end;
  }
  return {count, bounds};
}

// Groups of rows keep the sums for the unit vectors' gradient in a near cache; small batches are shared out row by row.
inline ptrdiff_t unit_group(ptrdiff_t rows) { return rows >= 64 ? 8 : 1; }

struct Block {
  ptrdiff_t begin, end;  // steps
  std::vector<RingRun> runs;
  ptrdiff_t groups;  // of all its steps' rows
};

// Blocks of steps, last first, of about `rows_per_block` rows, each step at rows slot[s] and after of a ring of
// `ring_rows`, which keeps the last step of the block before. All follow from the lengths and sizes alone, never from
// the threads.
struct Blocks {
  std::vector<Block> blocks;
  std::vector<int64_t> slot, group_slot;  // [step]; groups are counted from 0 in every block
  ptrdiff_t ring_rows = 0, most_groups = 0;

  // Of a batch that is one block.
  static ptrdiff_t ring_of(const Rows& rows) { return odd(rows.offset[rows.steps]); }
  // An odd distance keeps a row's panels in different sets of a cache.
  static ptrdiff_t odd(ptrdiff_t rows) { return rows | 1; }

  Blocks(const Rows& rows, ptrdiff_t rows_per_block, ptrdiff_t group)
      : slot(size_t(rows.steps)), group_slot(size_t(rows.steps)) {
    const ptrdiff_t widest = rows.steps ? rows.active[0] : 0;
    const ptrdiff_t most = std::max(rows_per_block, widest);
    const ptrdiff_t used = std::min<ptrdiff_t>(most + 2 * widest, rows.offset[rows.steps]);
    ring_rows = odd(used);
    ptrdiff_t position = 0;
    for (ptrdiff_t end = rows.steps; end > 0;) {
      Block block = {end, end, {}, 0};
      ptrdiff_t count = 0;
      while (block.begin > 0 && (count == 0 || count + rows.active[block.begin - 1] <= most)) {
        const ptrdiff_t s = --block.begin, n = rows.active[s];
        if (position + n > used) position = 0;
        if (block.runs.empty() || block.runs.back().begin + block.runs.back().count != position)
          block.runs.push_back({position, 0});
        slot[size_t(s)] = position;
        group_slot[size_t(s)] = block.groups;
        block.groups += (n + group - 1) / group;
        block.runs.back().count += n;
        position += n;
        count += n;
      }
      end = block.begin;
      most_groups = std::max(most_groups, block.groups);
      blocks.push_back(std::move(block));
    }
    if (blocks.empty()) blocks.push_back({0, 0, {}, 0});  // no steps: the state's gradient passes through
  }
};

}  // namespace recurra
