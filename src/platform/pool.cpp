// The package's own threads. What a call gives them is an offer: a thread that is late, because the processors have
// other work, finds that the caller has taken it back.
#include <pthread.h>

#include <array>
#include <new>
#include <system_error>

#include "platform/account.h"
#include "platform/clock.h"
#include "platform/worker.h"

namespace recurra {
namespace {

// All threads of a process, never given back: at its end they may be inside a call.
class Pool {
 public:
  // Null where there is no memory for it.
  static Pool* instance() {
    Pool* pool = current.load(std::memory_order_acquire);
    if (pool) return pool;
    auto* made = new (std::nothrow) Pool;
    if (!made || current.compare_exchange_strong(pool, made)) return made;
    delete made;
    return pool;
  }

  Worker* claim(size_t& from) {
    for (; from < workers_.size(); ++from) {
      Worker* worker = workers_[from].load(std::memory_order_acquire);
      if (!worker) worker = grow(from);
      if (!worker) return nullptr;
      if (worker->claim()) return ++from, worker;
    }
    return nullptr;
  }

  static std::atomic<Pool*> current;

 private:
  Worker* grow(size_t i) {
    const std::lock_guard<std::mutex> lock(growing_);
    if (Worker* worker = workers_[i].load()) return worker;
    try {
      workers_[i].store(new Worker, std::memory_order_release);
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
    return workers_[i].load();
  }

  std::array<std::atomic<Worker*>, kMostThreads> workers_{};
  std::mutex growing_;
};

std::atomic<Pool*> Pool::current{nullptr};

// A forked child has none of the threads, and a lock of theirs may be held for ever.
const int registered = pthread_atfork(nullptr, nullptr, [] { Pool::current.store(nullptr); });

// The threads that help with one call, on the caller's stack: as many as are free, started where there are too few;
// fewer than wanted where the system gives no more.
class Helpers {
 public:
  explicit Helpers(int wanted) noexcept : pool_(Pool::instance()) {
    static_cast<void>(registered);
    Worker* last = nullptr;
    for (size_t from = 0; pool_ && count_ < wanted; ++count_) {
      Worker* worker = pool_->claim(from);
      if (!worker) return;
      worker->next = nullptr;
      (last ? last->next : first_) = worker;
      last = worker;
    }
  }
  ~Helpers() {
    for (Worker* worker = first_; worker;) {
      Worker* const next = worker->next;
      worker->release();
      worker = next;
    }
  }
  Helpers(const Helpers&) = delete;
  Helpers& operator=(const Helpers&) = delete;

  int count() const { return count_; }
  // False in a child that was forked inside the call: its helpers are not here.
  bool are_here() const { return Pool::current.load() == pool_; }

  // f(worker, its number, from 1 on)
  template <class F>
  void each(const F& f) const {
    int i = 0;
    for (Worker* worker = first_; worker; worker = worker->next) f(*worker, ++i);
  }

 private:
  Pool* const pool_;
  Worker* first_ = nullptr;  // and those after it, linked
  int count_ = 0;
};

}  // namespace

void run_parts(int threads, Part part, void* context) {
  const Helpers helpers(threads - 1);
  const int members = 1 + helpers.count();
  helpers.each([&](Worker& worker, int i) { worker.offer(part, context, i, members); });
  const long long offered = steady_ns();
  part(context, 0, members);
  if (!is_patient()) {
    helpers.each([&](Worker& worker, int i) {
      if (!worker.withdraw()) return;
      const bool useful = part(context, i, members);  // the work of one who is late is the caller's
      if (useful && worker.absent() > kLateAfter)
        book(0, steady_ns() - offered);  // whoever is on its processor is disturbed
    });
  }
  helpers.each([&](Worker& worker, int) {
    if (helpers.are_here()) worker.finish();
  });
}

const char* thread_kind() { return "pool"; }

}  // namespace recurra
