#include "layers/scoring.h"

#include <cmath>

namespace recurra {
namespace {

constexpr ptrdiff_t kMostScoredFeatures = 1 << 20;
constexpr ptrdiff_t kKeyBlock = 48;  // memory steps in a block: whole tiles, with a product that fits a near cache

}  // namespace

template <class T>
Scoring<T>::Scoring(const char* owner, const ScoringOptions& o)
    : query_size_(o.query_size), projects_memory_(o.score == "additive" || o.score == "general") {
  const auto check_size = [&](const char* name, ptrdiff_t size) {
    check(size >= 1 && size <= kMostScoredFeatures, owner, name, " is ", size, ", expected 1 to ", kMostScoredFeatures);
  };
  check_size("query_size", o.query_size);
  check_size("memory_size", o.memory_size);
  const bool additive = o.score == "additive", scaled = o.score == "scaled_dot";
  check(projects_memory_ || scaled || o.score == "dot", owner, "score is '", o.score,
        "', expected additive, dot, scaled_dot or general");
  if (additive) check_size("hidden_size", o.hidden_size);
  check(projects_memory_ || o.query_size == o.memory_size, owner, "score '", o.score, "' takes queries of ",
        o.query_size, " features and a memory of ", o.memory_size, ", expected the same number; use 'general'");
  spec_ = {additive, additive ? o.hidden_size : o.query_size, o.memory_size,
           scaled ? 1 / std::sqrt(double(o.query_size)) : 1.0};
}

template <class T>
std::vector<ParameterSpec> Scoring<T>::parameters() const {
  std::vector<ParameterSpec> specs;
  if (projects_query()) specs = {{"weight_query", {spec_.key_size, query_size_}}, {"bias_query", {spec_.key_size}}};
  if (projects_memory_) specs.push_back({"weight_memory", {spec_.key_size, spec_.memory_size}});
  if (spec_.additive) specs.push_back({"weight_score", {spec_.key_size}});
  return specs;
}

template <class T>
void Scoring<T>::find(const Parameters<T>& parameters) {
  if (projects_query()) {
    weight_query_ = parameters.entry("weight_query").begin;
    bias_query_ = parameters.entry("bias_query").begin;
    weight_score_ = parameters.entry("weight_score").begin;
  }
  if (projects_memory_) weight_memory_ = parameters.entry("weight_memory").begin;
}

template <class T>
double Scoring<T>::work() const {
  const double A = double(spec_.key_size);
  return projects_query() ? A * double(query_size_) : 0;
}

template <class T>
double Scoring<T>::work_per_memory_step() const {
  return double(spec_.memory_size) + (spec_.additive ? 20 : 1) * double(spec_.key_size);
}

template <class T>
auto Scoring<T>::pack(const Device<T>& device, const T* values, bool backward, Arena& memory) const -> Packed {
  Packed packed = {};
  const auto matrix = [&](ptrdiff_t weight, ptrdiff_t in, const T* bias, bool transposed) {
    return PackedMatrix<T>::of(device, values + weight, spec_.key_size, in, bias, transposed, memory);
  };
  if (projects_query()) {
    packed.query = matrix(weight_query_, query_size_, values + bias_query_, false);
    if (backward) packed.query_t = matrix(weight_query_, query_size_, nullptr, true);
    T* v = memory.take<T>(size_t(spec_.key_size));
    copy_flat(device, values + weight_score_, spec_.key_size, v);
    packed.v = v;
  }
  if (projects_memory_) {
    packed.memory = matrix(weight_memory_, spec_.memory_size, nullptr, false);
    if (backward) packed.memory_t = matrix(weight_memory_, spec_.memory_size, nullptr, true);
  }
  return packed;
}

template <class T>
void Scoring<T>::take(const Device<T>& device, const OtherInput<T>& memory, bool backward, Attending<T>& to,
                      Arena& arena) const {
  to.batch = memory.batch;
  to.memory = memory.x;
  if (projects_memory_) to.keys = take_sequence<T>(arena, memory.batch, spec_.key_size);
  to.rows = device.attention_memory({&spec_, &memory.batch, memory.x, read_only(to.keys), backward}, arena);
}

template <class T>
void Scoring<T>::prepare(const Run& run, const Packed& packed, Attending<T>& to, Arena& scratch) const {
  if (projects_memory_) packed.memory.multiply(run, to.batch, to.memory, to.keys);
  to.rows->pack(run, packed.v, scratch);
}

template <class T>
void Scoring<T>::finish(const Run& run, const Packed& packed, const Batch& queries, const int32_t* memory_rows,
                        const Attending<T>& attending, Sequence<T> dmemory, T* gradient) const {
  const ptrdiff_t A = spec_.key_size, M = spec_.memory_size;
  const auto take = [&](ptrdiff_t features) { return take_sequence<T>(run.arena, attending.batch, features); };
  const Sequence<T> dkeys = projects_memory_ ? take(A) : Sequence<T>{};
  const Sequence<T> dx = dmemory.data ? dmemory : take(M);
  const ptrdiff_t tasks = std::min<ptrdiff_t>(run.threads, queries.rows),
                  size = std::max(attending.rows->scratch_size(queries.steps), kKeyBlock * M);
  T* scratch = run.arena.take<T>(size_t(tasks * size));
  const Device<T>& device = run.device<T>();
  // Adds the memory's gradient through its keys.
  const auto add_from_keys = [&](ptrdiff_t row, T* product) {
    const ptrdiff_t steps = attending.batch.length(row);
    for (ptrdiff_t begin = 0; begin < steps && !(run.stop && run.stop->poll()); begin += kKeyBlock) {
      const ptrdiff_t count = std::min(kKeyBlock, steps - begin);
      packed.memory_t.multiply(count, dkeys.at(row, begin), dkeys.step_stride, product, M);
      const Batch steps_of = {1, count, nullptr, nullptr, 0, 0};
      device.add(steps_of, M, {product, 0, M}, {dmemory.at(row, begin), 0, dmemory.step_stride});
    }
  };
  for_each_task(tasks, run.threads, [&](ptrdiff_t task) {
    T* const own = scratch + task * size;
    for (ptrdiff_t r = queries.rows * task / tasks; r < queries.rows * (task + 1) / tasks; ++r) {
      const ptrdiff_t row = memory_rows ? memory_rows[r] : r;
      attending.rows->memory_gradient(run, attending.call, r, row, queries.length(r), dkeys, dx, own);
      if (projects_memory_ && dmemory.data) add_from_keys(row, own);
    }
  });
  if (run.stopped()) return;
  if (projects_memory_)
    run.device<T>().outer(run, attending.batch, M, A, attending.memory, read_only(dkeys), gradient + weight_memory_,
                          nullptr);
  if (spec_.additive) attending.rows->add_v_gradient(gradient + weight_score_);
}

template <class T>
void Scoring<T>::finish_queries(const Run& run, const Batch& queries, Sequence<const T> x, Sequence<const T> dquery,
                                T* gradient) const {
  if (projects_query())
    run.device<T>().outer(run, queries, query_size_, spec_.key_size, x, dquery, gradient + weight_query_,
                          gradient + bias_query_);
}

template class Scoring<float>;
template class Scoring<double>;

}  // namespace recurra
