// The storage formats that the tests know, and stacks whose weights are in them.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "fence_values.h"
#include "platform/tasks.h"

namespace recurra {

// Half precision: 11 bits, of which the last is at 2^-24 or above; to even where two are equally near.
inline double half(double x) {
  if (x == 0 || !std::isfinite(x)) return x;
  int exponent;
  std::frexp(x, &exponent);
  const int last = std::max(exponent - 11, -24);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(x, -last)), last);
  return std::fabs(rounded) > 65504 ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}

// A format, what a number becomes in it, and to which magnitude the largest of a column is scaled before; 0: none is.
struct Format {
  const char* name;
  double (*rounded)(double);
  int largest = 0;
};
inline const Format kFormats[] = {{"f16", half}, {"scaled_f16", half, 1024}};

// What the k numbers of a column of weights stand for in a format.
template <class T>
std::vector<double> stored_column(const Format& format, const T* column, ptrdiff_t k) {
  T scale = 1;
  if (format.largest) {
    scale = 0;
    for (ptrdiff_t i = 0; i < k; ++i) scale = std::max(scale, std::fabs(column[i]));
    scale /= T(format.largest);
    if (scale < std::numeric_limits<T>::min()) scale = 0;
  }
  std::vector<double> made;
  for (ptrdiff_t i = 0; i < k; ++i)
    made.push_back(scale == 0 ? 0 : double(scale) * format.rounded(double(column[i] / scale)));
  return made;
}

// The same numbers in either type.
template <class T>
std::vector<T> floats(size_t n, int seed) {
  const std::vector<float> made = numbers<float>(n, seed);
  return {made.begin(), made.end()};
}

// What a stack is given: `steps` of each row, of different lengths or all of them.
struct Given {
  ptrdiff_t rows, steps;
  bool ragged = true;
};

// A stack on a device; its weights are passed to every call. Rows have the same numbers whatever their count.
template <class T>
class Stack {
 public:
  typedef std::unique_ptr<RecurrentWeights<T>> Weights;

  Stack(const Devices& devices, const RecurrentOptions& options)
      : devices_(devices),
        device_(devices.of<T>()),
        layer_(devices, options),
        spec_(recurrent_spec(devices, options)),
        offsets_(recurrent_offsets(devices, spec_, *layer_.parameters())) {}

  ptrdiff_t output_size() const { return layer_.output_size(); }
  ptrdiff_t state_size() const { return layer_.state_size(); }

  std::vector<T> random_parameters() const {
    std::mt19937 generator(1);
    std::normal_distribution<double> normal(0, 0.7 / std::sqrt(double(spec_.hidden_size)));
    std::vector<T> made(size_t(layer_.parameters()->size()));
    for (T& value : made) value = T(float(normal(generator)));
    return made;
  }
  // What parameters stand for, if their matrices are in a format.
  std::vector<double> stored(const Format& format, const std::vector<T>& parameters) const {
    std::vector<double> made(parameters.begin(), parameters.end());
    for_columns([&](ptrdiff_t begin, ptrdiff_t k) {
      const std::vector<double> column = stored_column(format, &parameters[size_t(begin)], k);
      std::copy(column.begin(), column.end(), made.begin() + begin);
    });
    return made;
  }
  // Zeros in all columns but every third.
  std::vector<T> with_zeros(std::vector<T> parameters) const {
    int column = 0;
    for_columns([&](ptrdiff_t begin, ptrdiff_t k) {
      if (++column % 3) std::fill_n(parameters.begin() + begin, k, T(0));
    });
    return parameters;
  }
  Weights pack(const std::vector<T>& parameters, int threads = 1) const {
    return pack(parameters, threads, kOwnStorage);
  }
  Weights pack(const Format& format, const std::vector<T>& parameters, int threads = 1) const {
    return pack(parameters, threads, device_.storage(format.name));
  }

  // y and the final state, with resets; in calls of `chunk` steps that pass the state on.
  std::vector<T> forward(const RecurrentWeights<T>& weights, Given given, int threads = 1, bool records = false,
                         ptrdiff_t chunk = 0) const {
    const ptrdiff_t rows = given.rows, steps = given.steps, inputs = spec_.input_size, outputs = output_size();
    const std::vector<T> x = input(given);
    const std::vector<uint8_t> reset = resets(given);
    std::vector<T> y(size_t(rows * steps * outputs)), state = floats<T>(size_t(rows * state_size()), 3);
    for (ptrdiff_t begin = 0, count = 0; begin < steps; begin += count) {
      count = chunk ? std::min(chunk, steps - begin) : steps;
      std::vector<int64_t> lengths;
      for (ptrdiff_t r = 0; r < rows; ++r) {
        const ptrdiff_t length = !given.ragged ? steps : r == 1 ? 0 : steps - r * 3 % 7;
        lengths.push_back(std::clamp<ptrdiff_t>(length - begin, 0, count));
      }
      const Batch batch = {rows, count, lengths.data(), reset.data() + begin, steps, 1};
      Arena arena(devices_.memory), host;
      Memory kept(devices_);
      const Run run = {devices_, arena, host, threads, nullptr, records, {5}};
      std::vector<T> end(state.size());
      const RecurrentForward<T> call = {&spec_,
                                        &weights,
                                        &batch,
                                        {x.data() + begin * inputs, steps * inputs, inputs},
                                        {y.data() + begin * outputs, steps * outputs, outputs},
                                        {state.data(), state_size()},
                                        {end.data(), state_size()}};
      if (records)
        device_.record(run, call, *device_.take_tape(call, true, kept));
      else
        device_.forward(run, call);
      state = end;
    }
    y.insert(y.end(), state.begin(), state.end());
    return y;
  }

  // The same as prepared single steps of rows that are equally long.
  std::vector<T> steps(const RecurrentWeights<T>& weights, Given given) const {
    const ptrdiff_t rows = given.rows, steps = given.steps, inputs = spec_.input_size, outputs = output_size();
    const std::vector<T> x = input(given);
    const std::vector<uint8_t> reset = resets(given);
    std::vector<T> y(size_t(rows * steps * outputs)), state = floats<T>(size_t(rows * state_size()), 3);
    const auto step = device_.prepare_step(spec_, rows);
    for (ptrdiff_t t = 0; t < steps; ++t) {
      std::vector<T> after(state.size());
      step->run(weights, {rows,
                          x.data() + t * inputs,
                          steps * inputs,
                          y.data() + t * outputs,
                          steps * outputs,
                          reset.data() + t,
                          steps,
                          {state.data(), state_size()},
                          {after.data(), state_size()}});
      state = after;
    }
    y.insert(y.end(), state.begin(), state.end());
    return y;
  }

 private:
  // f(place in the parameters, k) for the columns of the packed matrices, which are the rows of PyTorch's.
  template <class F>
  void for_columns(const F& f) const {
    for (const auto& entry : layer_.parameters()->entries())
      for (const char* matrix : {"weight_ih", "weight_hh", "weight_hr"})
        for (ptrdiff_t i = entry.begin; entry.name.rfind(matrix, 0) == 0 && i < entry.end; i += entry.shape[1])
          f(i, entry.shape[1]);
  }
  Weights pack(const std::vector<T>& parameters, int threads, StorageKind storage) const {
    return device_.pack({&spec_, &offsets_, parameters.data(), false, threads, storage}, Arena(devices_.memory));
  }
  std::vector<T> input(Given given) const { return floats<T>(size_t(given.rows * given.steps * spec_.input_size), 2); }
  static std::vector<uint8_t> resets(Given given) {
    std::vector<uint8_t> made;
    for (ptrdiff_t i = 0; i < given.rows * given.steps; ++i) made.push_back(i % 6 == 4);
    return made;
  }

  const Devices& devices_;
  const Device<T>& device_;
  const Recurrent<T> layer_;
  const RecurrentSpec spec_;
  const std::vector<RecurrentOffsets> offsets_;
};

struct Case {
  std::string name;
  RecurrentOptions options;
  ptrdiff_t steps = 11;
};

inline RecurrentOptions sized(const std::string& cell, ptrdiff_t inputs, ptrdiff_t hidden) {
  RecurrentOptions options = recurrent(cell);
  options.input_size = inputs;
  options.hidden_size = hidden;
  return options;
}

inline std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, RecurrentOptions options, const auto& change) {
    change(options);
    cases.push_back({name, options});
  };
  for (int kind = 0; kind < kCellKinds; ++kind) {
    const CellInfo& info = cpu_devices().f32.cell(CellKind(kind));
    const std::string cell = info.name;
    cases.push_back({cell, sized(cell, 3, 5)});
    cases.push_back({cell + " wide", sized(cell, 20, 67)});  // its input ahead of a row, in panels of half a vector
    add(cell + " deep", sized(cell, 4, 24), [](RecurrentOptions& o) { o.num_layers = 2, o.bidirectional = true; });
    add(cell + " without bias", sized(cell, 9, 16), [](RecurrentOptions& o) { o.bias = false; });
    if (!info.stages) continue;
    add(cell + " activation", recurrent(cell), [](RecurrentOptions& o) { o.candidate_activation.name = "softsign"; });
    add(cell + " masked", recurrent(cell), [](RecurrentOptions& o) { o.recurrent_dropout = 0.3, o.zoneout = 0.2; });
    if (info.stages == 1) add(cell + " norm", recurrent(cell), [](RecurrentOptions& o) { o.layer_norm = true; });
  }
  cases.push_back({"lstm of contiguous panels", sized("lstm", 12, 260)});
  cases.push_back({"lstm options", optional_lstm()});
  add("lstm projection", sized("lstm", 9, 40), [](RecurrentOptions& o) { o.proj_size = 21, o.num_layers = 2; });
  add("lstm peepholes", recurrent("lstm"), [](RecurrentOptions& o) { o.peepholes = true, o.cell_clip = 1; });
  return cases;
}

// A row's input is multiplied beside its recurrent products, in pieces of k.
inline std::vector<Case> cases_in_pieces() {
  return {{"rnn in pieces", sized("rnn_tanh", 100, 300), 80}, {"lstm in pieces", sized("lstm", 150, 260), 40}};
}

// With threads that share even the smallest calls.
class EagerThreads {
 public:
  EagerThreads() {
    set_num_threads(3);
    set_eager(true);
  }
  ~EagerThreads() {
    set_eager(false);
    set_num_threads(threads_);
  }
  EagerThreads(const EagerThreads&) = delete;
  EagerThreads& operator=(const EagerThreads&) = delete;

 private:
  const int threads_ = num_threads();
};

template <class T>
void expect_same(const std::vector<T>& got, const std::vector<T>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  ASSERT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(T)), 0);
}

}  // namespace recurra
