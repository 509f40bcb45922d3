// Work on some rows of a table, distributed to threads in blocks that depend on the rows alone.
#pragma once
#include <cstdint>

#include "platform/tasks.h"

namespace recurra {

constexpr ptrdiff_t kRowsInBlock = 256;
inline ptrdiff_t row_blocks(ptrdiff_t count) { return (count + kRowsInBlock - 1) / kRowsInBlock; }

// Calls f(block, row) for `count` rows of `size` numbers; a block's rows run in order on one thread.
template <class F>
void for_row_blocks(const int64_t* rows, ptrdiff_t count, ptrdiff_t size, const F& f) {
  for_each_task(row_blocks(count), threads_to_move(count * size), [&](ptrdiff_t block) {
    const ptrdiff_t end = std::min(count, (block + 1) * kRowsInBlock);
    for (ptrdiff_t i = block * kRowsInBlock; i < end; ++i) f(block, rows[i]);
  });
}

}  // namespace recurra
