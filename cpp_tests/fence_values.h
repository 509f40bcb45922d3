// What the tests on the fenced device compute with.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "fenced_device.h"
#include "layers/recurrent.h"

namespace recurra {

constexpr ptrdiff_t kFeatures = 6;

template <class T>
std::vector<T> numbers(size_t n, int seed) {
  std::vector<T> made;
  for (size_t i = 0; i < n; ++i) made.push_back(T((int64_t(i) * 37 + seed * 13) % 101 + 1) / T(90) - T(0.5));
  return made;
}

template <class T>
void expect_bits(const std::vector<std::vector<T>>& got, const std::vector<std::vector<T>>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].size(), expected[i].size());
    if (got[i].empty()) continue;  // memcmp wants addresses
    EXPECT_EQ(std::memcmp(got[i].data(), expected[i].data(), got[i].size() * sizeof(T)), 0) << i;
  }
}

// The same values of a layer's parameters on every device.
template <class T>
void set_parameters(const Layer<T>& layer) {
  Parameters<T>& parameters = *layer.parameters();
  const HostAccess access(layer.devices());
  const std::vector<T> values = numbers<T>(size_t(parameters.size()), 1);
  std::copy(values.begin(), values.end(), parameters.values());
  parameters.touch();
}

inline RecurrentOptions recurrent(const std::string& cell) {
  RecurrentOptions options;
  options.cell = cell;
  options.input_size = kFeatures;
  options.hidden_size = 9;
  return options;
}

// Every option of a cell at once, as far as they go together.
inline RecurrentOptions optional_lstm() {
  RecurrentOptions options = recurrent("lstm");
  options.proj_size = 4;
  options.peepholes = true;
  options.layer_norm = true;
  options.recurrent_dropout = 0.2;
  options.zoneout = options.zoneout_cell = 0.1;
  options.cell_clip = 2;
  return options;
}

}  // namespace recurra
