#include "layers/permute.h"

namespace recurra {

template <class T>
Permute<T>::Permute(const Devices& devices, const std::vector<ptrdiff_t>& shape, const std::vector<ptrdiff_t>& dims)
    : Layer<T>(devices), size_(1), inner_{1, 1, 1} {
  constexpr ptrdiff_t kMost = 1 << 30;
  const ptrdiff_t rank = ptrdiff_t(shape.size());
  check(rank >= 1 && rank <= 8 && ptrdiff_t(dims.size()) == rank, "Permute", "got ", rank, " sizes and ", dims.size(),
        " dims, expected as many of each, from 1 to 8");
  std::vector<Axis> axes(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    check(shape[i] >= 1 && shape[i] <= kMost / size_, "Permute", "got a size of ", shape[i],
          ", expected at least 1, and at most ", kMost, " values together");
    axes[i] = {shape[i], size_, 0};
    size_ *= shape[i];
  }
  std::vector<bool> seen(shape.size());
  for (const ptrdiff_t dim : dims) {
    check(dim >= 0 && dim < rank && !seen[size_t(dim)], "Permute", "got dims with ", dim, ", expected each of 0 to ",
          rank - 1, " once");
    seen[size_t(dim)] = true;
    outer_.push_back(axes[size_t(dim)]);
  }
  ptrdiff_t to = 1;
  for (size_t i = outer_.size(); i-- > 0; to *= outer_[i].size) outer_[i].to = to;
  inner_ = outer_.back();
  outer_.pop_back();
}

// Calls f(first input, first output) for every line along the last axis of the output.
template <class T>
template <class F>
void Permute<T>::for_each_line(const F& f) const {
  for (ptrdiff_t line = 0; line < size_ / inner_.size; ++line) {
    ptrdiff_t rest = line, from = 0;
    for (size_t i = outer_.size(); i-- > 0; rest /= outer_[i].size) from += rest % outer_[i].size * outer_[i].from;
    f(from, line * inner_.size);
  }
}

template <class T>
void Permute<T>::forward(const Run& run, const LayerForward<T>& call) {
  const Sequence<const T> x = call.x.features;
  for_each_line([&](ptrdiff_t from, ptrdiff_t to) {
    run.device<T>().copy({&call.batch,
                          inner_.size,
                          {x.data + from, x.row_stride, x.step_stride},
                          {call.y.data + to, call.y.row_stride, call.y.step_stride},
                          inner_.from,
                          1,
                          false,
                          run.stop});
  });
}

template <class T>
void Permute<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>&, Memory&) {
  if (!call.dy.data || !call.dx.data) return;
  for_each_line([&](ptrdiff_t to, ptrdiff_t from) {
    run.device<T>().copy({&call.batch,
                          inner_.size,
                          {call.dy.data + from, call.dy.row_stride, call.dy.step_stride},
                          {call.dx.data + to, call.dx.row_stride, call.dx.step_stride},
                          1,
                          inner_.from,
                          false,
                          run.stop});
  });
}

template class Permute<float>;
template class Permute<double>;

}  // namespace recurra
