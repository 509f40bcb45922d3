#include <memory>

#include "cpu/isa.h"
#include "registration.h"

namespace recurra {
namespace {

struct Size {
  ptrdiff_t inputs, hidden, rows, steps;
  std::string name() const {
    return std::to_string(inputs) + "-" + std::to_string(hidden) + "/" + std::to_string(rows) + "x" +
           std::to_string(steps);
  }
};

// A stack of one layer and direction, from the zero state, on the calling thread.
template <class T>
class Stack {
 public:
  Stack(CellKind cell, const Size& size) : size_(size), spec_{cell, size.inputs, size.hidden, 1, 1, true, 0.0} {
    const CellInfo& info = *kernels<T>().cells[cell]->info;
    gates_ = info.gates;
    state_inputs_ = info.stages ? size.hidden : 0;
    const ptrdiff_t rows = gates_ * size.hidden;
    const std::vector<RecurrentOffsets> offsets = {
        {0, rows * size.inputs, rows * (size.inputs + size.hidden), rows * (size.inputs + size.hidden + 1)}};
    const std::vector<T> parameters = numbers<T>(rows * (size.inputs + size.hidden + 2), 0.1);
    forward_ = cpu_device<T>().pack({&spec_, &offsets, parameters.data(), false, 1}, Arena());
    backward_ = cpu_device<T>().pack({&spec_, &offsets, parameters.data(), true, 1}, Arena());
    state_size_ = size.hidden * (info.has_cell ? 2 : 1);
    x_ = numbers<T>(size.rows * size.steps * size.inputs);
    dy_ = numbers<T>(size.rows * size.steps * size.hidden);
    y_.resize(dy_.size());
    state_.resize(size_t(size.rows * state_size_));
    dstate_.resize(state_.size());
  }

  void forward() {
    scratch_.reset();
    cpu_device<T>().forward(run(), forward_call());
  }

  void train() {
    scratch_.reset();
    kept_.reset();
    const RecurrentForward<T> forward = forward_call();
    const std::unique_ptr<RecurrentTape<T>> tape = cpu_device<T>().take_tape(forward, true, kept_);
    cpu_device<T>().record(run(), forward, *tape);
    scratch_.reset();
    RecurrentBackward<T> call = {};
    call.spec = &spec_;
    call.weights = backward_.get();
    call.batch = &batch_;
    call.dy = {dy_.data(), size_.steps * size_.hidden, size_.hidden};
    call.dstate = {dstate_.data(), state_size_};
    call.memory = &kept_.device;
    cpu_device<T>().backward(run(), call, *tape);
  }

  // Multiply-adds of one forward, counted as two, and the bytes of the weights that its steps read.
  double forward_flop() const { return 2.0 * double(weights() * size_.rows * size_.steps); }
  double weight_bytes() const { return double(sizeof(T)) * double(weights() * size_.steps); }
  // dW for inputs and recurrence, and dh; the input's gradient is not asked for.
  double backward_flop() const {
    const ptrdiff_t recurrent = gates_ * size_.hidden * state_inputs_;
    return 2.0 * double((weights() + recurrent) * size_.rows * size_.steps);
  }

 private:
  ptrdiff_t weights() const { return gates_ * size_.hidden * (size_.inputs + state_inputs_); }
  Run run() { return {cpu_devices(), scratch_, scratch_, 1, nullptr, true, 0}; }
  RecurrentForward<T> forward_call() {
    RecurrentForward<T> call = {};
    call.spec = &spec_;
    call.weights = forward_.get();
    call.batch = &batch_;
    call.x = {x_.data(), size_.steps * size_.inputs, size_.inputs};
    call.y = {y_.data(), size_.steps * size_.hidden, size_.hidden};
    call.final_state = {state_.data(), state_size_};
    return call;
  }

  Size size_;
  RecurrentSpec spec_;
  Batch batch_ = {size_.rows, size_.steps, nullptr, nullptr, 0, 0};
  ptrdiff_t gates_ = 0, state_inputs_ = 0, state_size_ = 0;
  std::shared_ptr<const RecurrentWeights<T>> forward_, backward_;
  std::vector<T> x_, dy_, y_, state_, dstate_;
  Arena scratch_;
  Memory kept_{cpu_devices()};
};

template <class T>
void forward(benchmark::State& state, CellKind cell, const Size& size) {
  Stack<T> stack(cell, size);
  for (int i = 0; i < 2; ++i) stack.forward();  // memory is taken and touched
  for (auto _ : state) stack.forward();
  count(state, stack.forward_flop(), stack.weight_bytes());
}

template <class T>
void train(benchmark::State& state, CellKind cell, const Size& size) {
  Stack<T> stack(cell, size);
  for (int i = 0; i < 2; ++i) stack.train();  // memory is taken and touched
  for (auto _ : state) stack.train();
  count(state, stack.forward_flop() + stack.backward_flop(), 2 * stack.weight_bytes());
}

template <class T>
void register_type() {
  const Size steps[] = {{1, 32, 1, 1}, {128, 128, 1, 1}, {128, 128, 64, 1}, {128, 128, 1, 512}};
  const Size training[] = {{1, 24, 16, 512}, {32, 128, 256, 32}, {512, 512, 32, 16}};
  for (int kind = 0; kind < kCellKinds; ++kind) {
    const auto cell = static_cast<CellKind>(kind);
    const std::string name = kernels<T>().cells[kind]->info->name;
    for (const Size& size : steps)
      benchmark::RegisterBenchmark(benchmark_name<T>(name + "_forward", size.name()).c_str(),
                                   [=](benchmark::State& state) { forward<T>(state, cell, size); });
    for (const Size& size : training)
      benchmark::RegisterBenchmark(benchmark_name<T>(name + "_training", size.name()).c_str(),
                                   [=](benchmark::State& state) { train<T>(state, cell, size); });
  }
}

}  // namespace

void register_recurrent() {
  register_type<float>();
  register_type<double>();
}

}  // namespace recurra
