#include "platform/parallel.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "child.h"
#include "platform/barrier.h"
#include "platform/fork.h"
#include "platform/tasks.h"
#include "platform/threads.h"

#if defined(__SANITIZE_THREAD__)
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() {
  return "die_after_fork=0";  // children start threads
}
#endif

namespace recurra {
namespace {

typedef std::chrono::steady_clock Clock;
using std::chrono::milliseconds;

// The threads that run `tasks` tasks. Each task waits until all have begun, at most `wait`: so this many at a time.
std::set<std::thread::id> meet(int tasks, int threads, milliseconds wait = milliseconds(5000)) {
  std::atomic<int> begun{0};
  std::vector<std::thread::id> ids(tasks);
  for_each_task(tasks, threads, [&](ptrdiff_t task) {
    ids[task] = std::this_thread::get_id();
    ++begun;
    const auto end = Clock::now() + wait;
    while (begun < tasks && Clock::now() < end) std::this_thread::yield();
  });
  return std::set<std::thread::id>(ids.begin(), ids.end());
}

// True if every task runs exactly once, for all sorts of counts.
bool each_task_runs_once() {
  for (const int tasks : {0, 1, 2, 3, 7, 64, 1000}) {
    for (const int threads : {1, 2, 3, 4, 100}) {
      std::vector<std::atomic<int>> runs(tasks);
      for_each_task(tasks, threads, [&](ptrdiff_t task) { ++runs[task]; });
      if (!std::all_of(runs.begin(), runs.end(), [](const std::atomic<int>& count) { return count == 1; }))
        return false;
    }
  }
  return true;
}

const std::set<std::thread::id>& just_this_thread() {
  thread_local const std::set<std::thread::id> ids{std::this_thread::get_id()};
  return ids;
}

class Parallel : public ::testing::Test {
 protected:
  void SetUp() override {
    set_num_threads(4);
    set_patient(true);  // there may be fewer processors
  }
  void TearDown() override {
    set_patient(false);
    set_num_threads(default_num_threads());
  }
};
typedef Parallel ParallelFork;

TEST_F(Parallel, EachTaskRunsOnce) { EXPECT_TRUE(each_task_runs_once()); }

TEST_F(Parallel, TasksRunAtTheSameTime) {
  EXPECT_EQ(meet(4, 4).size(), 4u);
  EXPECT_EQ(meet(2, 4).size(), 2u);
}

TEST_F(Parallel, TheMembersOfATeamMeet) {
  for (const int threads : {1, 2, 3}) {
    SpinBarrier barrier;
    std::atomic<int> turns{0}, wrong{0};
    for_each_member(threads, [&](int member, int members) {
      wrong += members != threads || member < 0 || member >= members;
      for (int round = 1; round <= 1000; ++round) {
        ++turns;
        wrong += barrier.wait(members) != SpinBarrier::kTogether || turns < round * members;
      }
    });
    EXPECT_EQ(turns, 1000 * threads);
    EXPECT_EQ(wrong, 0);
  }
}

TEST_F(Parallel, NobodyWaitsForAMemberWhoLeft) {
  SpinBarrier barrier;
  std::atomic<int> released{0};
  for_each_member(3, [&](int member, int members) {
    if (member == 1)
      barrier.leave();
    else
      released += barrier.wait(members) == SpinBarrier::kLeft;
  });
  EXPECT_EQ(released, 2);
}

TEST_F(Parallel, AllMembersHearThatOneWasLate) {
  const auto late = milliseconds(kLateAfter / 1'000'000 + 5);
  for (const bool patient : {true, false}) {
    set_patient(patient);
    SpinBarrier barrier;
    std::atomic<int> members{0}, apart{0};
    const auto meet_twice = [&](int member) {
      if (member == 1) std::this_thread::sleep_for(late);
      ++members;
      const bool first = barrier.wait(3) == SpinBarrier::kApart;
      apart += first && barrier.wait(3) == SpinBarrier::kApart;
    };
    std::thread others[] = {std::thread(meet_twice, 1), std::thread(meet_twice, 2)};
    meet_twice(0);
    for (std::thread& other : others) other.join();
    EXPECT_EQ(apart, patient ? 0 : 3);
    EXPECT_EQ(barrier.waited() > kLateAfter, !patient);
  }
}

TEST_F(Parallel, WhereMoreIsLostThanGainedCallsStayOnTheirCallersForAWhile) {
  set_patient(false);
  constexpr long long kMuch = 1'000'000'000;
  const auto begin = Clock::now();
  for (int i = 0; i < 3; ++i) {
    note_waiting(kMuch);
    while (stays_alone()) std::this_thread::yield();  // it ends by itself
  }
  EXPECT_GE(Clock::now() - begin, milliseconds(4 + 16 + 64));  // longer each time
  note_waiting(kMuch);
  EXPECT_TRUE(stays_alone());
  EXPECT_EQ(meet(2, 4, milliseconds(1)), just_this_thread());
  for_each_member(4, [](int, int members) { EXPECT_EQ(members, 1); });
  note_waiting(kMuch);
  set_num_threads(4);  // begins anew
  EXPECT_FALSE(stays_alone());
  note_waiting(kMuch);
  set_patient(true);
  EXPECT_EQ(meet(4, 4).size(), 4u);
}

TEST_F(Parallel, ALittleWaitingIsNoReasonToStayAlone) {
  set_patient(false);
  note_waiting(kLateAfter / 2);
  EXPECT_FALSE(stays_alone());
}

// One processor for all: the caller keeps it, so helpers that were asleep are late.
TEST_F(Parallel, TheCallerDoesTheWorkOfThoseThatAreLate) {
#if defined(__linux__)
  set_patient(false);
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(answer_of_child([] { return each_task_runs_once() ? 0 : 1; }), 0);  // it starts threads of its own there
  sched_setaffinity(0, sizeof before, &before);
#endif
}

TEST_F(Parallel, NoMoreThreadsThanAskedForOrAllowed) {
  EXPECT_EQ(meet(8, 2, milliseconds(20)).size(), 2u);
  EXPECT_EQ(meet(3, 1, milliseconds(5)), just_this_thread());
  EXPECT_EQ(meet(3, 0, milliseconds(5)), just_this_thread());
  set_num_threads(3);
  EXPECT_EQ(meet(8, 8, milliseconds(20)).size(), 3u);
}

TEST_F(Parallel, NestedCallsRunOnTheirCaller) {
  std::vector<std::atomic<int>> runs(40);
  std::atomic<int> elsewhere{0};
  for_each_task(4, 4, [&](ptrdiff_t outer) {
    const auto caller = std::this_thread::get_id();
    for_each_task(10, 4, [&](ptrdiff_t inner) {
      ++runs[10 * outer + inner];
      if (std::this_thread::get_id() != caller) ++elsewhere;
    });
  });
  EXPECT_EQ(elsewhere, 0);
  for (const auto& count : runs) EXPECT_EQ(count, 1);
  EXPECT_EQ(meet(4, 4).size(), 4u);  // and the outer level is itself again
}

TEST_F(Parallel, ConcurrentCallersShareTheLimit) {
  constexpr int kCallers = 8, kLimit = 4;
  std::atomic<int> busy{0}, most{0}, total{0};
  std::vector<std::thread> callers;
  callers.reserve(kCallers);
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&] {
      for (int call = 0; call < 50; ++call) {
        for_each_task(8, kLimit, [&](ptrdiff_t) {
          const int now = ++busy;
          for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
          }
          std::this_thread::sleep_for(std::chrono::microseconds(50));
          ++total;
          --busy;
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total, kCallers * 50 * 8);
  EXPECT_LE(most, kLimit - 1 + kCallers);  // one caller has the limit, the others have themselves
  EXPECT_EQ(meet(4, 4).size(), 4u);        // everything was given back
}

TEST_F(Parallel, ACallerThatFindsNothingLeftRunsAlone) {
  std::atomic<int> begun{0};
  std::atomic<bool> release{false};
  const auto wait_for_release = [&](ptrdiff_t) {
    ++begun;
    while (!release) std::this_thread::yield();
  };
  std::thread greedy([&] { for_each_task(3, 3, wait_for_release); });
  while (begun < 3) std::this_thread::yield();
  const auto last = meet(2, 4, milliseconds(20));  // one of four is left
  std::thread other([&] { for_each_task(1, 1, wait_for_release); });
  while (begun < 4) std::this_thread::yield();
  const auto none = meet(2, 4, milliseconds(20));
  release = true;
  greedy.join();
  other.join();
  EXPECT_EQ(last, just_this_thread());
  EXPECT_EQ(none, just_this_thread());
  EXPECT_EQ(meet(4, 4).size(), 4u);
}

TEST_F(Parallel, WhatATaskThrowsReachesTheCaller) {
  const auto fail = [](ptrdiff_t task) {
    if (task % 3 == 1) throw std::bad_alloc();
  };
  for (int threads : {1, 4}) {
    EXPECT_THROW(for_each_task(20, threads, fail), std::bad_alloc) << threads;
    EXPECT_THROW(share_tasks(20, threads, [&](int, ptrdiff_t task) { fail(task); }), std::bad_alloc) << threads;
  }
  EXPECT_TRUE(each_task_runs_once());
}

TEST_F(Parallel, SubnormalsAreFlushedInTasksOnly) {
  volatile float tiny = std::numeric_limits<float>::min();
  for (const int threads : {1, 4}) {
    std::atomic<int> flushed{0};
    for_each_task(4, threads, [&](ptrdiff_t) { flushed += tiny * 0.5f == 0; });
    EXPECT_EQ(flushed, 4);
    EXPECT_NE(tiny * 0.5f, 0);
  }
}

TEST(NumThreads, SetAndGet) {
  const int before = num_threads();
  set_num_threads(3);
  EXPECT_EQ(num_threads(), 3);
  set_num_threads(before);
  for (const int wrong : {0, -1, 1 << 20}) EXPECT_THROW(set_num_threads(wrong), std::invalid_argument) << wrong;
  EXPECT_EQ(num_threads(), before);
}

// NOLINTBEGIN(concurrency-mt-unsafe): no other thread reads the environment here
TEST(NumThreads, DefaultRespectsTheEnvironment) {
  const char* old = std::getenv("OMP_NUM_THREADS");
  const std::string saved = old ? old : "";
  unsetenv("OMP_NUM_THREADS");
  const int machine = default_num_threads();
  EXPECT_GE(machine, 1);
  EXPECT_LE(machine, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
  for (const char* one : {"1", "1,4"}) {
    setenv("OMP_NUM_THREADS", one, 1);
    EXPECT_EQ(default_num_threads(), 1);
  }
  for (const char* no_help : {"9999", "0", "-3", "many", ""}) {
    setenv("OMP_NUM_THREADS", no_help, 1);
    EXPECT_EQ(default_num_threads(), machine) << no_help;
  }
  old ? setenv("OMP_NUM_THREADS", saved.c_str(), 1) : unsetenv("OMP_NUM_THREADS");
}
// NOLINTEND(concurrency-mt-unsafe)

int child_of_used_process() {
  if (!each_task_runs_once()) return 1;
  return meet(4, 4).size() == 4 ? 0 : 2;
}

TEST_F(ParallelFork, ChildrenHaveThreadsOfTheirOwn) {
  ASSERT_EQ(meet(4, 4).size(), 4u);
  for (int i = 0; i < 20; ++i) ASSERT_EQ(answer_of_child(child_of_used_process), 0) << i;
  EXPECT_EQ(meet(4, 4).size(), 4u);  // the parent is as it was
}

TEST_F(ParallelFork, GrandchildrenToo) {
  ASSERT_EQ(meet(4, 4).size(), 4u);
  EXPECT_EQ(answer_of_child([] { return answer_of_child(child_of_used_process); }), 0);
}

#if !defined(__SANITIZE_THREAD__)  // it takes a child's thread for one of the parent's with the same address
TEST_F(ParallelFork, WhileAnotherThreadIsInsideACall) {
  std::atomic<bool> done{false};
  std::atomic<int> calls{0};
  std::thread busy([&] {
    while (!done) {
      for_each_task(8, 4, [&](ptrdiff_t) { std::this_thread::sleep_for(std::chrono::microseconds(20)); });
      ++calls;
    }
  });
  while (calls == 0) std::this_thread::yield();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(answer_of_child(child_of_used_process), 0) << i;
  done = true;
  busy.join();
  EXPECT_EQ(meet(4, 4).size(), 4u);
}
#endif

// The exit code of a child whose thread has come back from the call in which it was forked. A region of OpenMP's was
// never ended, so that the thread's next ones have no threads but itself; the child's other threads have theirs.
int child_of_unfinished_call() {
  const bool alone = std::string(thread_kind()) == "openmp";
  if (alone && meet(4, 4, milliseconds(5)) != just_this_thread()) return 1;
  if (!alone && meet(4, 4).size() != 4) return 2;
  int answer = 3;
  std::thread([&] { answer = child_of_used_process(); }).join();
  return answer == 0 ? 7 : answer;
}

TEST_F(ParallelFork, AChildThatComesBackIntoItsCallEndsIt) {
  EXPECT_EQ(answer_of_child([] {
              const pid_t process = getpid();
              int status = 0;  // of a child of this child
              Stop stop(
                  [](void* context) {
                    const pid_t pid = fork();
                    if (pid) return waitpid(pid, static_cast<int*>(context), 0) != pid;
                    alarm(5);
                    std::thread([] { each_task_runs_once(); }).join();  // it has a pool of its own by now
                    return false;
                  },
                  &status);
              std::this_thread::sleep_for(milliseconds(60));
              for_each_task(4, 4, [&](ptrdiff_t task) {
                const auto end = Clock::now() + milliseconds(task ? 300 : 0);  // helpers are at work then
                do stop.poll();
                while (Clock::now() < end);
              });
              if (getpid() != process) _exit(stop.requested() ? child_of_unfinished_call() : 4);
              return WIFEXITED(status) && WEXITSTATUS(status) == 7 ? 0 : 2;
            }),
            0);
}

// A signal handler that a long call runs by its stop function may fork.
TEST_F(ParallelFork, FromWithinATask) {
  for (const int threads : {1, 4}) {
    std::atomic<int> answer{-1};
    for_each_task(2, threads, [&](ptrdiff_t task) {
      if (task == 0) answer = answer_of_child([] { return each_task_runs_once() ? 0 : 1; });  // nested: serially
    });
    EXPECT_EQ(answer, 0);
  }
  EXPECT_EQ(meet(4, 4).size(), 4u);
}

TEST_F(ParallelFork, ATurnIsKnownByItsProcessAndThread) {
  Turn turn;
  EXPECT_EQ(turn.take(), Turn::kTaken);
  EXPECT_EQ(turn.take(), Turn::kInUse);
  EXPECT_EQ(answer_of_child([&] { return turn.take() == Turn::kInUse && !turn.abandoned() ? 0 : 1; }), 0);
  std::thread([&] {
    EXPECT_EQ(turn.take(), Turn::kInUse);
    EXPECT_FALSE(turn.abandoned());
    EXPECT_EQ(answer_of_child([&] {  // which lacks the thread that has the turn
                if (!turn.abandoned() || turn.take() != Turn::kAbandoned) return 1;
                if (turn.abandoned() || turn.take() != Turn::kInUse) return 2;
                turn.end();
                return turn.take() == Turn::kTaken ? 0 : 3;
              }),
              0);
  }).join();
  turn.end();
  EXPECT_EQ(turn.take(), Turn::kTaken);
}

// A value may expire while its replacement is made under a lock of the same kind.
TEST_F(ParallelFork, TheGateMayBeNestedWhileOthersFork) {
  std::atomic<bool> done{false};
  std::thread nesting([&] {
    while (!done) {
      const NoFork outer;
      std::this_thread::yield();
      const NoFork inner;
    }
  });
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(answer_of_child([] {
                const NoFork outer, inner;
                return 0;
              }),
              0);
  done = true;
  nesting.join();
}

struct Asked {
  int times = 0;
  bool answer = false;
  static bool ask(void* context) {
    Asked& asked = *static_cast<Asked*>(context);
    ++asked.times;
    return asked.answer;
  }
};

TEST(Stop, AsksAtMostEvery50Milliseconds) {
  Asked asked;
  Stop stop(&Asked::ask, &asked);
  EXPECT_FALSE(stop.poll());
  EXPECT_EQ(asked.times, 0);  // a short call is never bothered
  const auto begin = Clock::now();
  while (asked.times < 3) EXPECT_FALSE(stop.poll());  // however long that takes on a busy machine
  EXPECT_GE(Clock::now() - begin, milliseconds(120));
  EXPECT_FALSE(stop.requested());
}

TEST(Stop, StaysTrueOnEveryThread) {
  Asked asked;
  asked.answer = true;
  Stop stop(&Asked::ask, &asked);
  std::thread([&] {
    std::this_thread::sleep_for(milliseconds(60));
    EXPECT_FALSE(stop.poll());  // due, but not this thread's to ask
  }).join();
  EXPECT_EQ(asked.times, 0);
  EXPECT_TRUE(stop.poll());
  EXPECT_TRUE(stop.requested());
  asked.answer = false;
  EXPECT_TRUE(stop.poll());
  std::thread([&] { EXPECT_TRUE(stop.poll() && stop.requested()); }).join();
  EXPECT_EQ(asked.times, 1);
}

TEST(Stop, WithoutAFunctionNeverStops) {
  Stop stop(nullptr, nullptr);
  std::this_thread::sleep_for(milliseconds(60));
  EXPECT_FALSE(stop.poll());
}

TEST_F(Parallel, TheOwnersPollReachesTheOtherTasks) {
  Asked asked;
  asked.answer = true;
  Stop stop(&Asked::ask, &asked);
  std::atomic<int> stopped{0};
  for_each_task(4, 4, [&](ptrdiff_t) {
    const auto end = Clock::now() + milliseconds(5000);
    while (!stop.poll() && Clock::now() < end) std::this_thread::yield();
    if (stop.requested()) ++stopped;
  });
  EXPECT_EQ(stopped, 4);
  EXPECT_EQ(asked.times, 1);
}

}  // namespace
}  // namespace recurra
