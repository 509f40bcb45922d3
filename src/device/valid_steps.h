// Iterates over the valid steps of a sequence's rows, to move data.
#pragma once
#include <algorithm>

#include "device/batch.h"
#include "platform/tasks.h"

namespace recurra {

// Steps of `features` numbers between two polls: about 10 us.
inline ptrdiff_t poll_steps(ptrdiff_t features) { return 1 + (ptrdiff_t(1) << 15) / std::max<ptrdiff_t>(features, 1); }

// Calls f(row, step) for all valid steps, with rows distributed to threads if there is much to move. Ends early if the
// call is stopped.
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
  for (ptrdiff_t r = 0; r < batch.rows; ++r) walk(r);  // a parallel call costs more than a small move
}

}  // namespace recurra
