// parallel_for and parallel_team over a callable.
#pragma once
#include <algorithm>
#include <atomic>
#include <new>

#include "platform/parallel.h"

namespace recurra {

template <class F>
void for_each_task(ptrdiff_t tasks, int threads, const F& f) {
  parallel_for(
      tasks, threads, [](void* context, ptrdiff_t task) { (*static_cast<const F*>(context))(task); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

// For tasks that may run out of memory, which must not leave the thread that they run on: the caller is told when all
// have ended; those that had not begun are left out.
template <class F>
void for_each_allocating_task(ptrdiff_t tasks, int threads, const F& f) {
  std::atomic<bool> failed{false};
  for_each_task(tasks, threads, [&](ptrdiff_t task) {
    if (failed) return;
    try {
      f(task);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
  });
  if (failed) throw std::bad_alloc();
}

template <class F>
void for_each_member(int threads, const F& f) {
  parallel_team(
      threads, [](void* context, int member, int members) { (*static_cast<const F*>(context))(member, members); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

// For tasks that need memory of their thread's own: f(member, task), member < threads.
template <class F>
void share_tasks(ptrdiff_t tasks, int threads, const F& f) {
  std::atomic<ptrdiff_t> taken{0};
  for_each_member(int(std::min<ptrdiff_t>(tasks, threads)), [&](int member, int) {
    for (ptrdiff_t task; (task = taken.fetch_add(1, std::memory_order_relaxed)) < tasks;) f(member, task);
  });
}

}  // namespace recurra
