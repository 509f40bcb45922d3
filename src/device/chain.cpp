#include "device/chain.h"

#include <cmath>
#include <limits>

namespace recurra {

Chain::Chain(ptrdiff_t tags, std::vector<double> transitions, std::vector<double> start, std::vector<double> end)
    : tags_(tags),
      transitions_(std::move(transitions)),
      start_(std::move(start)),
      end_(std::move(end)),
      exp_(transitions_.size()),
      exp_transposed_(transitions_.size()),
      columns_(size_t(tags), -std::numeric_limits<double>::infinity()) {
  for (ptrdiff_t i = 0; i < tags; ++i)
    for (ptrdiff_t j = 0; j < tags; ++j) columns_[size_t(j)] = larger(columns_[size_t(j)], transition(i, j));
  for (double& most : columns_)
    if (std::isinf(most) && most < 0) most = 0;
  for (ptrdiff_t i = 0; i < tags; ++i)
    for (ptrdiff_t j = 0; j < tags; ++j)
      exp_[size_t(i * tags + j)] = exp_transposed_[size_t(j * tags + i)] = std::exp(transition(i, j) - column(j));
}

}  // namespace recurra
