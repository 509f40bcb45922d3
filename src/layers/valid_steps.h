// A walk over the valid steps of each row of a sequence, where bytes are moved.
#pragma once
#include "backend/backend.h"
#include "platform/tasks.h"

namespace recurra {

// f(row, step) for all valid steps, rows shared out to threads where there is much to move.
template <class F>
void for_each_valid(const Batch& batch, ptrdiff_t features, const F& f) {
  for_each_task(batch.rows, threads_to_move(batch.rows * batch.steps * features), [&](ptrdiff_t r) {
    for (ptrdiff_t s = 0; s < batch.length(r); ++s) f(r, s);
  });
}

}  // namespace recurra
