// parallel_for and parallel_team over a callable.
#pragma once
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

}  // namespace recurra
