#include <pthread.h>
#include <sched.h>

#include "platform/placement.h"

namespace recurra {

int usable_processors() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                     : static_cast<int>(std::thread::hardware_concurrency());
}

struct Placement::State {
  pthread_t thread = {};
  cpu_set_t allowed = {};  // before it was narrowed
  bool narrowed = false;
};

Placement::Placement() : state_(new State) {}
Placement::~Placement() = default;

void Placement::of(std::thread& thread) { state_->thread = thread.native_handle(); }

void Placement::keep_off_mine() {
  State& s = *state_;
  const int cpu = sched_getcpu();
  if (s.narrowed || cpu < 0 || cpu >= CPU_SETSIZE) return;
  if (pthread_getaffinity_np(s.thread, sizeof s.allowed, &s.allowed)) return;
  cpu_set_t others = s.allowed;
  CPU_CLR(cpu, &others);
  s.narrowed = CPU_COUNT(&others) > 0 && pthread_setaffinity_np(s.thread, sizeof others, &others) == 0;
}

void Placement::widen() {
  if (state_->narrowed) pthread_setaffinity_np(state_->thread, sizeof state_->allowed, &state_->allowed);
  state_->narrowed = false;
}

}  // namespace recurra
