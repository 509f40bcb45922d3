// Several inputs with the same steps become one.
#include "cpu/device.h"
#include "cpu/ops/matrix.h"
#include "device/valid_steps.h"

namespace recurra {
namespace {

// An input at one step.
template <class T>
struct Part {
  const T* x;
  T* dx;  // null: not wanted
  ptrdiff_t features;
};

// f(row, step, parts, count) at every valid step; rows are shared out.
template <class T, class F>
void for_each_parts(const Run& run, const Merging<T>& call, const F& f) {
  const Batch& batch = *call.batch;
  const ptrdiff_t count = call.count, features = call.parts[0].features;
  const int threads = std::min(run.threads, threads_to_move(batch.tokens() * features * count));
  const ptrdiff_t steps = poll_steps(features * count);
  Part<T>* const all = run.arena.template take<Part<T>>(size_t(batch.rows * count));
  for_each_task(batch.rows, threads, [&](ptrdiff_t r) {
    Part<T>* const parts = all + r * count;
    for (ptrdiff_t s = 0; s < batch.length(r); ++s) {
      if (s % steps == 0 && stopped(run)) return;
      for (ptrdiff_t k = 0; k < count; ++k) {
        const MergePart<T>& part = call.parts[k];
        parts[k] = {part.x.at(r, s), part.dx.data ? part.dx.at(r, s) : nullptr, part.features};
      }
      f(r, s, static_cast<const Part<T>*>(parts), count);
    }
  });
}

// Not inlined: where both summands are NaN, the compiler's choice for the code around it would decide which one stays.
template <class T>
__attribute__((noinline)) void add_parts(const Part<T>* parts, ptrdiff_t count, T* y) {
  std::copy_n(parts[0].x, parts[0].features, y);
  for (ptrdiff_t k = 1; k < count; ++k)
    for (ptrdiff_t i = 0; i < parts[k].features; ++i) y[i] += parts[k].x[i];
}

// A rule's two functions at one step: merge() makes y, split() what the inputs have of dy.

struct Add {
  template <class T>
  static void merge(const Part<T>* parts, ptrdiff_t count, T* y) {
    add_parts(parts, count, y);
  }
  template <class T>
  static void split(const Part<T>* parts, ptrdiff_t count, const T* dy) {
    for (ptrdiff_t k = 0; k < count; ++k)
      if (parts[k].dx) std::copy_n(dy, parts[k].features, parts[k].dx);
  }
};

struct Multiply {
  template <class T>
  static void merge(const Part<T>* parts, ptrdiff_t count, T* y) {
    std::copy_n(parts[0].x, parts[0].features, y);
    for (ptrdiff_t k = 1; k < count; ++k)
      for (ptrdiff_t i = 0; i < parts[k].features; ++i) y[i] *= parts[k].x[i];
  }
  template <class T>
  static void split(const Part<T>* parts, ptrdiff_t count, const T* dy) {
    for (ptrdiff_t k = 0; k < count; ++k) {
      if (!parts[k].dx) continue;
      std::copy_n(dy, parts[k].features, parts[k].dx);
      for (ptrdiff_t j = 0; j < count; ++j)
        if (j != k)
          for (ptrdiff_t i = 0; i < parts[k].features; ++i) parts[k].dx[i] *= parts[j].x[i];
    }
  }
};

struct Subtract {
  template <class T>
  static void merge(const Part<T>* parts, ptrdiff_t, T* y) {
    for (ptrdiff_t i = 0; i < parts[0].features; ++i) y[i] = parts[0].x[i] - parts[1].x[i];
  }
  template <class T>
  static void split(const Part<T>* parts, ptrdiff_t, const T* dy) {
    if (parts[0].dx) std::copy_n(dy, parts[0].features, parts[0].dx);
    for (ptrdiff_t i = 0; parts[1].dx && i < parts[1].features; ++i) parts[1].dx[i] = -dy[i];
  }
};

struct Average {
  template <class T>
  static void merge(const Part<T>* parts, ptrdiff_t count, T* y) {
    add_parts(parts, count, y);
    for (ptrdiff_t i = 0; i < parts[0].features; ++i) y[i] /= T(count);
  }
  template <class T>
  static void split(const Part<T>* parts, ptrdiff_t count, const T* dy) {
    for (ptrdiff_t k = 0; k < count; ++k)
      for (ptrdiff_t i = 0; parts[k].dx && i < parts[k].features; ++i) parts[k].dx[i] = dy[i] / T(count);
  }
};

// NaN wins. The gradient goes to the first input that has the largest, or smallest.
template <bool kLargest>
struct Extreme {
  template <class T>
  static bool wins(T x, T over) {
    return x != x ? over == over : kLargest ? x > over : x < over;
  }
  template <class T>
  static void merge(const Part<T>* parts, ptrdiff_t count, T* y) {
    std::copy_n(parts[0].x, parts[0].features, y);
    for (ptrdiff_t k = 1; k < count; ++k)
      for (ptrdiff_t i = 0; i < parts[k].features; ++i)
        if (wins(parts[k].x[i], y[i])) y[i] = parts[k].x[i];
  }
  template <class T>
  static void split(const Part<T>* parts, ptrdiff_t count, const T* dy) {
    for (ptrdiff_t i = 0; i < parts[0].features; ++i) {
      ptrdiff_t winner = 0;
      for (ptrdiff_t k = 1; k < count; ++k)
        if (wins(parts[k].x[i], parts[winner].x[i])) winner = k;
      for (ptrdiff_t k = 0; k < count; ++k)
        if (parts[k].dx) parts[k].dx[i] = k == winner ? dy[i] : T(0);
    }
  }
};

struct Dot {
  template <class T>
  static void merge(const Part<T>* parts, ptrdiff_t, T* y) {
    *y = kernels<T>().rows.dot(parts[0].x, parts[1].x, parts[0].features);
  }
  template <class T>
  static void split(const Part<T>* parts, ptrdiff_t, const T* dy) {
    for (ptrdiff_t k = 0; k < 2; ++k)
      for (ptrdiff_t i = 0; parts[k].dx && i < parts[k].features; ++i) parts[k].dx[i] = *dy * parts[1 - k].x[i];
  }
};

struct Concatenate {
  template <class T>
  static void merge(const Part<T>* parts, ptrdiff_t count, T* y) {
    for (ptrdiff_t k = 0; k < count; ++k) y = std::copy_n(parts[k].x, parts[k].features, y);
  }
  template <class T>
  static void split(const Part<T>* parts, ptrdiff_t count, const T* dy) {
    for (ptrdiff_t k = 0; k < count; ++k) {
      if (parts[k].dx) std::copy_n(dy, parts[k].features, parts[k].dx);
      dy += parts[k].features;
    }
  }
};

template <class F>
void with_rule(MergeKind kind, const F& f) {
  switch (kind) {
    case MergeKind::kAdd:
      return f(Add());
    case MergeKind::kMultiply:
      return f(Multiply());
    case MergeKind::kSubtract:
      return f(Subtract());
    case MergeKind::kAverage:
      return f(Average());
    case MergeKind::kMaximum:
      return f(Extreme<true>());
    case MergeKind::kMinimum:
      return f(Extreme<false>());
    case MergeKind::kDot:
      return f(Dot());
    case MergeKind::kConcatenate:
      return f(Concatenate());
  }
}

}  // namespace

template <class T>
void CpuDevice<T>::merge(const Run& run, const Merging<T>& call, Sequence<T> y) const {
  with_rule(call.kind, [&](auto rule) {
    for_each_parts(run, call, [&](ptrdiff_t r, ptrdiff_t s, const Part<T>* parts, ptrdiff_t count) {
      rule.merge(parts, count, y.at(r, s));
    });
  });
}

template <class T>
void CpuDevice<T>::merge_gradient(const Run& run, const Merging<T>& call, Sequence<const T> dy) const {
  with_rule(call.kind, [&](auto rule) {
    for_each_parts(run, call, [&](ptrdiff_t r, ptrdiff_t s, const Part<T>* parts, ptrdiff_t count) {
      rule.split(parts, count, dy.at(r, s));
    });
  });
}

#define RECURRA_INSTANCES(T)                                                           \
  template void CpuDevice<T>::merge(const Run&, const Merging<T>&, Sequence<T>) const; \
  template void CpuDevice<T>::merge_gradient(const Run&, const Merging<T>&, Sequence<const T>) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
