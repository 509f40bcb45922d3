// The package's own thread pool. Parts are only offered to threads: when the caller is done with its own part, it takes
// back those whose threads have not started because the processors have other work.
#include <array>
#include <new>
#include <system_error>

#include "platform/account.h"
#include "platform/clock.h"
#include "platform/fork.h"
#include "platform/worker.h"

namespace recurra {
namespace {

// The process's threads. Never destroyed: at exit they may be inside a call.
class Pool {
 public:
  // Null if memory is exhausted.
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

// A forked child has none of the threads, and their mutexes may be locked forever.
const int registered = at_fork(nullptr, nullptr, [] { Pool::current.store(nullptr); });

// Claims up to `wanted` threads for a call. Starts new ones if too few are idle; count() is lower than `wanted` if the
// system refuses them.
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
  // False in a child that was forked inside the call, which has none of its helpers.
  bool are_here() const { return Pool::current.load() == pool_; }

  // f(worker, member), member from 1 on
  template <class F>
  void each(const F& f) const {
    int i = 0;
    for (Worker* worker = first_; worker; worker = worker->next) f(*worker, ++i);
  }

 private:
  Pool* const pool_;
  Worker* first_ = nullptr;  // head of a linked list
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
      const bool useful = part(context, i, members);  // the caller does the late thread's work
      if (useful && worker.absent() > kLateAfter)
        book(0, steady_ns() - offered);  // its processor is busy with other work, which spinning disturbs
    });
  }
  helpers.each([&](Worker& worker, int) {
    if (helpers.are_here()) worker.finish();
  });
}

const char* thread_kind() { return "pool"; }

}  // namespace recurra
