// Rows in pieces within which windows of steps move.
#pragma once
#include "cpu/ops/matrix.h"

namespace recurra {

// An episode, or all of a row where none starts within it: steps [begin, begin + steps) of a row.
struct Piece {
  ptrdiff_t row, begin, steps;
  bool goes_on;  // from what came before the row's first step
};

struct Pieces {
  Piece* data;
  ptrdiff_t count;
};

inline Pieces take_pieces(const Run& run, const Batch& batch) {
  ptrdiff_t resets = 0;
  for (ptrdiff_t r = 0; batch.reset && r < batch.rows; ++r)
    for (ptrdiff_t s = 0; s < batch.length(r); ++s) resets += batch.reset[r * batch.reset_row + s * batch.reset_step];
  Pieces made = {run.arena.take<Piece>(size_t(batch.rows + resets)), 0};
  for (ptrdiff_t r = 0; r < batch.rows; ++r) {
    Piece piece = {r, 0, batch.length(r), true};
    for (ptrdiff_t s = 0; batch.reset && s < batch.length(r); ++s) {
      if (!batch.reset[r * batch.reset_row + s * batch.reset_step]) continue;
      piece.steps = s - piece.begin;
      if (piece.steps) made.data[made.count++] = piece;
      piece = {r, s, batch.length(r) - s, false};
    }
    made.data[made.count++] = piece;
  }
  return made;
}

// Calls f(i, scratch (n)) for i < tasks; each thread has scratch of its own.
template <class T, class F>
void with_scratch(const Run& run, ptrdiff_t tasks, ptrdiff_t n, const F& f) {
  const int threads = int(std::min<ptrdiff_t>(run.threads, tasks));
  if (threads < 1) return;
  T* scratch = run.arena.template take<T>(size_t(threads * n));
  share_tasks(tasks, threads, [&](int member, ptrdiff_t i) {
    if (!stopped(run)) f(i, scratch + member * n);
  });
}

}  // namespace recurra
