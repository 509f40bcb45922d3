// What attention learns: how queries and memory are scored. Part of a layer's parameters; Attention and
// AttentionDecoder share it.
#pragma once
#include <memory>

#include "layers/packed_matrix.h"
#include "platform/tasks.h"

namespace recurra {

struct ScoringOptions {
  std::string score;  // "additive", "dot", "scaled_dot" or "general"
  ptrdiff_t query_size = 0, memory_size = 0;
  ptrdiff_t hidden_size = 0;  // of additive scores
};

// The memory of a call, ready to be looked at, with the arrays of the queries.
template <class T>
struct Attending {
  Batch batch = {};  // of the memory
  Sequence<const T> memory = {};
  Sequence<T> keys = {};  // data null: the memory itself
  AttentionCall<T> call = {};
  std::unique_ptr<AttentionMemory<T>> rows;
};

// f(row, first step, count) for all steps of a batch in blocks of at most so many, rows side by side; it ends early
// where the call is to stop.
template <class F>
void for_step_blocks(const Run& run, const Batch& batch, ptrdiff_t most, const F& f) {
  for_each_task(batch.rows, run.threads, [&](ptrdiff_t r) {
    const ptrdiff_t n = batch.length(r);
    for (ptrdiff_t s = 0; s < n && !(run.stop && run.stop->poll()); s += most) f(r, s, std::min(most, n - s));
  });
}

template <class T>
class Scoring {
 public:
  // Throws std::invalid_argument, in the name of `owner`.
  Scoring(const char* owner, const ScoringOptions&);

  const AttentionSpec& spec() const { return spec_; }
  ptrdiff_t query_size() const { return query_size_; }
  bool projects_query() const { return spec_.additive; }
  std::vector<ParameterSpec> parameters() const;
  // Finds the arrays among the owner's.
  void find(const Parameters<T>&);
  // Multiply-adds and activations of a query, and of its look at a memory's step.
  double work() const;
  double work_per_memory_step() const;

  struct Packed {
    PackedMatrix<T> query, memory;      // where there is such a projection
    PackedMatrix<T> query_t, memory_t;  // for backward
    const T* v;
  };
  Packed pack(const Device<T>&, const T* values, bool backward, Arena&) const;

  // Projects the memory and packs it. `backward`: as in AttentionInput.
  void prepare(const Run&, const Packed&, const OtherInput<T>& memory, bool backward, Attending<T>&, Arena&) const;

  // Takes the same from an arena that only counts, for one that can run backwards.
  void count(const Device<T>&, const OtherInput<T>& memory, Arena& count) const;

  // What is left when all queries' gradients are made: for row r of `queries`, which looked at memory_rows[r] (null:
  // r), the memory's gradient goes to `dmemory` (data null: not wanted) and the parameters' is added to `gradient`,
  // where the owner's parameters begin.
  void finish(const Run&, const Packed&, const Batch& queries, const int32_t* memory_rows, const Attending<T>&,
              Sequence<T> dmemory, T* gradient) const;
  // The gradient of the queries' projection, where there is one, from `x`.
  void finish_queries(const Run&, const Batch& queries, Sequence<const T> x, Sequence<const T> dquery,
                      T* gradient) const;

 private:
  AttentionSpec spec_;
  ptrdiff_t query_size_;
  bool projects_memory_;
  ptrdiff_t weight_query_ = 0, bias_query_ = 0, weight_memory_ = 0, weight_score_ = 0;
};

}  // namespace recurra
