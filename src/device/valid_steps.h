// A walk over the valid steps of each row of a sequence, where bytes are moved.
#pragma once
#include <algorithm>

#include "device/batch.h"
#include "platform/tasks.h"

namespace recurra {

// Steps of so many numbers between two looks at the clock: some 10 us.
inline ptrdiff_t poll_steps(ptrdiff_t features) { return 1 + (ptrdiff_t(1) << 15) / std::max<ptrdiff_t>(features, 1); }

// f(row, step) for all valid steps, rows shared out to threads where there is much to move. It ends early where the
// call is to stop.
template <class F>
void for_each_valid(const Batch& batch, ptrdiff_t features, const F& f, Stop* stop = nullptr) {
  const ptrdiff_t steps = poll_steps(features);
  const auto walk = [&](ptrdiff_t r) {
    for (ptrdiff_t s = 0; s < batch.length(r); ++s) {
      if (stop && s % steps == 0 && stop->poll()) return;
      f(r, s);
    }
  };
  const int threads = threads_to_move(batch.rows * batch.steps * features);
  if (threads > 1) return for_each_task(batch.rows, threads, walk);
  for (ptrdiff_t r = 0; r < batch.rows; ++r) walk(r);  // entering a parallel call takes longer than a small step's move
}

}  // namespace recurra
