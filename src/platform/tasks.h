// parallel_for and parallel_team over a callable.
#pragma once
#include <algorithm>
#include <atomic>

#include "platform/parallel.h"

namespace recurra {

template <class F>
void for_each_task(ptrdiff_t tasks, int threads, const F& f) {
  parallel_for(
      tasks, threads, [](void* context, ptrdiff_t task) { (*static_cast<const F*>(context))(task); },
      const_cast<void*>(static_cast<const void*>(&f)));
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
