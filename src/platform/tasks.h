// parallel_for and parallel_team for callables.
#pragma once
#include <algorithm>
#include <atomic>
#include <exception>

#include "platform/parallel.h"

namespace recurra {

// An exception that escaped on a helper thread, such as bad_alloc, would end the process. The first one is stored and
// rethrown when all threads are done; work that has not started is skipped.
class Failure {
 public:
  template <class F>
  void guard(const F& f) noexcept {
    if (failed_.load(std::memory_order_relaxed)) return;
    try {
      f();
    } catch (...) {
      if (!failed_.exchange(true)) error_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
};

// f(member, task), member < threads: for tasks that use per-thread memory.
template <class F>
void share_tasks(ptrdiff_t tasks, int threads, const F& f) {
  Failure failure;
  const auto run = [&](int member, ptrdiff_t task) { failure.guard([&] { f(member, task); }); };
  typedef decltype(run) Run;
  parallel_for(
      tasks, threads,
      [](void* context, int member, ptrdiff_t task) { (*static_cast<const Run*>(context))(member, task); },
      const_cast<void*>(static_cast<const void*>(&run)));
  failure.rethrow();
}

// f(task)
template <class F>
void for_each_task(ptrdiff_t tasks, int threads, const F& f) {
  share_tasks(tasks, threads, [&](int, ptrdiff_t task) { f(task); });
}

// The number of threads for `work`: 1 below `least`, the work of about 50 us, where threads cost more than they gain.
int threads_for(double work, double least);
// The number of threads to copy or write n elements.
inline int threads_to_move(ptrdiff_t n) { return threads_for(double(n), 1 << 18); }
// For tests of work sharing: an eager process uses threads for work of any size.
void set_eager(bool eager);

// to[0, n) = 0
template <class T>
void clear(T* to, ptrdiff_t n, int threads) {
  constexpr ptrdiff_t kPiece = 1 << 16;
  for_each_task((n + kPiece - 1) / kPiece, threads,
                [&](ptrdiff_t i) { std::fill(to + i * kPiece, to + std::min(n, (i + 1) * kPiece), T(0)); });
}

// f(member, members), which must not throw: the other members would wait for it forever.
template <class F>
void for_each_member(int threads, const F& f) {
  parallel_team(
      threads,
      [](void* context, int member, int members) noexcept { (*static_cast<const F*>(context))(member, members); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

}  // namespace recurra
