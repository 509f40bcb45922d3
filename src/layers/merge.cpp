#include "layers/merge.h"

#include <algorithm>
#include <vector>

#include "cpu/isa.h"
#include "layers/valid_steps.h"

namespace recurra {
namespace {

// Below this many elements a thread costs more than it brings.
constexpr double kParallelElements = 1 << 18;

// f(row, step, parts) at every valid step; rows are shared out.
template <class T, class Part, class Call, class F>
void for_each_step(const Run& run, const Call& call, const Sequence<T>& dx, const Sequence<T>* others_dx, const F& f) {
  const ptrdiff_t count = call.other_count + 1;
  const double elements = double(call.batch.tokens()) * double(call.features) * double(count);
  const ptrdiff_t steps = poll_steps(call.features * count);
  Part* const all = run.arena.template take<Part>(size_t(call.batch.rows * count));
  for_each_task(call.batch.rows, std::min(run.threads, threads_for(elements, kParallelElements)), [&](ptrdiff_t r) {
    Part* const parts = all + r * count;
    for (ptrdiff_t s = 0; s < call.batch.length(r); ++s) {
      if (s % steps == 0 && run.stop && run.stop->poll()) return;
      parts[0] = {call.x.features.at(r, s), dx.data ? dx.at(r, s) : nullptr, call.features};
      for (ptrdiff_t k = 1; k < count; ++k) {
        const OtherInput<T>& other = call.others[k - 1];
        T* const to = others_dx && others_dx[k - 1].data ? others_dx[k - 1].at(r, s) : nullptr;
        parts[k] = {other.x.at(r, s), to, other.features};
      }
      f(r, s, parts, count);
    }
  });
}

template <class T, class Part>
void add_parts(const Part* parts, ptrdiff_t count, T* y) {
  std::copy_n(parts[0].x, parts[0].features, y);
  for (ptrdiff_t k = 1; k < count; ++k)
    for (ptrdiff_t i = 0; i < parts[k].features; ++i) y[i] += parts[k].x[i];
}

}  // namespace

template <class T>
ptrdiff_t Merge<T>::output_features(const ptrdiff_t* features, ptrdiff_t inputs) const {
  for (ptrdiff_t k = 1; k < inputs; ++k)
    check(features[k] == features[0], this->kind(), "input ", k, " has ", features[k], " features, expected ",
          features[0], ", as input 0 has");
  return features[0];
}

template <class T>
ptrdiff_t Concatenate<T>::output_features(const ptrdiff_t* features, ptrdiff_t inputs) const {
  ptrdiff_t sum = 0;
  for (ptrdiff_t k = 0; k < inputs; ++k) sum += features[k];
  return sum;
}

template <class T>
ptrdiff_t Dot<T>::output_features(const ptrdiff_t* features, ptrdiff_t inputs) const {
  Merge<T>::output_features(features, inputs);
  return 1;
}

template <class T>
void Merge<T>::forward(const Run& run, const LayerForward<T>& call) {
  for_each_step<T, Part>(run, call, {}, nullptr, [&](ptrdiff_t r, ptrdiff_t s, const Part* parts, ptrdiff_t count) {
    merge(parts, count, call.y.at(r, s));
  });
}

template <class T>
std::unique_ptr<LayerTape<T>> Merge<T>::record(const Run& run, const LayerForward<T>& call, Arena&) {
  forward(run, call);
  return std::make_unique<LayerTape<T>>();
}

template <class T>
void Merge<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Arena&) {
  if (!call.dy.data) return;
  for_each_step<T, Part>(
      run, call, call.dx, call.others_dx,
      [&](ptrdiff_t r, ptrdiff_t s, const Part* parts, ptrdiff_t count) { split(parts, count, call.dy.at(r, s)); });
}

template <class T>
void Add<T>::merge(const Part* parts, ptrdiff_t count, T* y) const {
  add_parts(parts, count, y);
}
template <class T>
void Add<T>::split(const Part* parts, ptrdiff_t count, const T* dy) const {
  for (ptrdiff_t k = 0; k < count; ++k)
    if (parts[k].dx) std::copy_n(dy, parts[k].features, parts[k].dx);
}

template <class T>
void Multiply<T>::merge(const Part* parts, ptrdiff_t count, T* y) const {
  std::copy_n(parts[0].x, parts[0].features, y);
  for (ptrdiff_t k = 1; k < count; ++k)
    for (ptrdiff_t i = 0; i < parts[k].features; ++i) y[i] *= parts[k].x[i];
}
template <class T>
void Multiply<T>::split(const Part* parts, ptrdiff_t count, const T* dy) const {
  for (ptrdiff_t k = 0; k < count; ++k) {
    if (!parts[k].dx) continue;
    std::copy_n(dy, parts[k].features, parts[k].dx);
    for (ptrdiff_t j = 0; j < count; ++j)
      if (j != k)
        for (ptrdiff_t i = 0; i < parts[k].features; ++i) parts[k].dx[i] *= parts[j].x[i];
  }
}

template <class T>
void Subtract<T>::merge(const Part* parts, ptrdiff_t, T* y) const {
  for (ptrdiff_t i = 0; i < parts[0].features; ++i) y[i] = parts[0].x[i] - parts[1].x[i];
}
template <class T>
void Subtract<T>::split(const Part* parts, ptrdiff_t, const T* dy) const {
  if (parts[0].dx) std::copy_n(dy, parts[0].features, parts[0].dx);
  for (ptrdiff_t i = 0; parts[1].dx && i < parts[1].features; ++i) parts[1].dx[i] = -dy[i];
}

template <class T>
void Average<T>::merge(const Part* parts, ptrdiff_t count, T* y) const {
  add_parts(parts, count, y);
  for (ptrdiff_t i = 0; i < parts[0].features; ++i) y[i] /= T(count);
}
template <class T>
void Average<T>::split(const Part* parts, ptrdiff_t count, const T* dy) const {
  for (ptrdiff_t k = 0; k < count; ++k)
    for (ptrdiff_t i = 0; parts[k].dx && i < parts[k].features; ++i) parts[k].dx[i] = dy[i] / T(count);
}

template <class T, bool kLargest>
void Extreme<T, kLargest>::merge(const Part* parts, ptrdiff_t count, T* y) const {
  std::copy_n(parts[0].x, parts[0].features, y);
  for (ptrdiff_t k = 1; k < count; ++k)
    for (ptrdiff_t i = 0; i < parts[k].features; ++i)
      if (wins(parts[k].x[i], y[i])) y[i] = parts[k].x[i];
}
template <class T, bool kLargest>
void Extreme<T, kLargest>::split(const Part* parts, ptrdiff_t count, const T* dy) const {
  for (ptrdiff_t i = 0; i < parts[0].features; ++i) {
    ptrdiff_t winner = 0;
    for (ptrdiff_t k = 1; k < count; ++k)
      if (wins(parts[k].x[i], parts[winner].x[i])) winner = k;
    for (ptrdiff_t k = 0; k < count; ++k)
      if (parts[k].dx) parts[k].dx[i] = k == winner ? dy[i] : T(0);
  }
}

template <class T>
void Dot<T>::merge(const Part* parts, ptrdiff_t, T* y) const {
  *y = kernels<T>().rows.dot(parts[0].x, parts[1].x, parts[0].features);
}
template <class T>
void Dot<T>::split(const Part* parts, ptrdiff_t, const T* dy) const {
  for (ptrdiff_t k = 0; k < 2; ++k)
    for (ptrdiff_t i = 0; parts[k].dx && i < parts[k].features; ++i) parts[k].dx[i] = *dy * parts[1 - k].x[i];
}

template <class T>
void Concatenate<T>::merge(const Part* parts, ptrdiff_t count, T* y) const {
  for (ptrdiff_t k = 0; k < count; ++k) y = std::copy_n(parts[k].x, parts[k].features, y);
}
template <class T>
void Concatenate<T>::split(const Part* parts, ptrdiff_t count, const T* dy) const {
  for (ptrdiff_t k = 0; k < count; ++k) {
    if (parts[k].dx) std::copy_n(dy, parts[k].features, parts[k].dx);
    dy += parts[k].features;
  }
}

#define RECURRA_INSTANTIATE(Class) \
  template class Class<float>;     \
  template class Class<double>;
RECURRA_INSTANTIATE(Merge)
RECURRA_INSTANTIATE(Add)
RECURRA_INSTANTIATE(Multiply)
RECURRA_INSTANTIATE(Concatenate)
RECURRA_INSTANTIATE(Subtract)
RECURRA_INSTANTIATE(Average)
RECURRA_INSTANTIATE(Dot)
template class Extreme<float, true>;
template class Extreme<float, false>;
template class Extreme<double, true>;
template class Extreme<double, false>;

}  // namespace recurra
