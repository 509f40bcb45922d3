// The scores of attention and their parameters, which are a part of a layer's. Shared by Attention and
// AttentionDecoder.
#pragma once
#include <memory>

#include "layers/packed_matrix.h"
#include "platform/tasks.h"

namespace recurra {

struct ScoringOptions {
  std::string score;  // "additive", "dot", "scaled_dot" or "general"
  ptrdiff_t query_size = 0, memory_size = 0;
  ptrdiff_t hidden_size = 0;  // for additive scores
};

// A call's memory, prepared for attention, with the arrays of the queries.
template <class T>
struct Attending {
  Batch batch = {};  // the memory's
  Sequence<const T> memory = {};
  Sequence<T> keys = {};     // data null: the memory itself is the keys
  Sequence<T> queries = {};  // projected by Attention; else data null
  AttentionCall<T> call = {};
  std::unique_ptr<AttentionMemory<T>> rows;
};

// Calls f(row, first step, count) for all steps of a batch, in blocks of at most `most`, rows in parallel. Ends early
// if the run is stopped.
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
  // Throws std::invalid_argument for wrong options, in the name of `owner`.
  Scoring(const char* owner, const ScoringOptions&);

  const AttentionSpec& spec() const { return spec_; }
  ptrdiff_t query_size() const { return query_size_; }
  bool projects_query() const { return spec_.additive; }
  std::vector<ParameterSpec> parameters() const;
  // Finds its arrays among the owner's parameters.
  void find(const Parameters<T>&);
  // Multiply-adds and activations of a query, and of a query and a memory step.
  double work() const;
  double work_per_memory_step() const;

  struct Packed {
    PackedMatrix<T> query, memory;      // if they are projected
    PackedMatrix<T> query_t, memory_t;  // for backward
    const T* v;
  };
  Packed pack(const Device<T>&, const T* values, bool backward, Arena&) const;

  // Takes the arrays of a memory. `backward`: as in AttentionInput.
  void take(const Device<T>&, const OtherInput<T>& memory, bool backward, Attending<T>&, Arena&) const;
  // Projects the memory and packs it; `scratch`: as in AttentionMemory::pack().
  void prepare(const Run&, const Packed&, Attending<T>&, Arena& scratch) const;

  // The rest of backward, after all queries' gradients: row r of `queries` attended to memory_rows[r] (null: r). Writes
  // the memory's gradient to `dmemory` (data null: not wanted) and adds the parameters' to `gradient`, laid out as the
  // owner's parameters.
  void finish(const Run&, const Packed&, const Batch& queries, const int32_t* memory_rows, const Attending<T>&,
              Sequence<T> dmemory, T* gradient) const;
  // Adds the gradient of the queries' projection, if there is one; `x` is its input.
  void finish_queries(const Run&, const Batch& queries, Sequence<const T> x, Sequence<const T> dquery,
                      T* gradient) const;

 private:
  AttentionSpec spec_;
  ptrdiff_t query_size_;
  bool projects_memory_;
  ptrdiff_t weight_query_ = 0, bias_query_ = 0, weight_memory_ = 0, weight_score_ = 0;
};

}  // namespace recurra
