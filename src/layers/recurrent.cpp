#include "layers/recurrent.h"

#include "platform/error.h"

namespace recurra {
namespace {

constexpr ptrdiff_t kMostUnits = 1 << 20;  // so that no product of sizes overflows

CellKind cell_kind(const Devices& devices, const std::string& name) {
  std::string names;
  for (int i = 0; i < kCellKinds; ++i) {
    const char* known = devices.f32.cell(CellKind(i)).name;
    if (name == known) return CellKind(i);
    names += (i ? ", " : "") + std::string(known);
  }
  fail("Recurrent", "got cell '" + name + "', expected one of: " + names);
}

}  // namespace

RecurrentSpec recurrent_spec(const Devices& devices, const RecurrentOptions& o) {
  const CellKind cell = o.own ? CellKind(0) : cell_kind(devices, o.cell);
  const auto check_size = [](const char* name, ptrdiff_t size, ptrdiff_t most) {
    check(size >= 1 && size <= most, "Recurrent", name, " is ", size, ", expected 1 to ", most);
  };
  check_size("input_size", o.input_size, kMostUnits);
  check_size("hidden_size", o.hidden_size, kMostUnits);
  check_size("num_layers", o.num_layers, 1024);
  const auto check_rate = [](const char* name, double rate) {
    check(rate >= 0 && rate < 1, "Recurrent", name, " is ", rate, ", expected 0 <= ", name, " < 1");
  };
  check_rate("dropout", o.dropout);
  check_rate("input_dropout", o.input_dropout);
  check_rate("recurrent_dropout", o.recurrent_dropout);
  check_rate("zoneout", o.zoneout);
  check_rate("zoneout_cell", o.zoneout_cell);
  const CellInfo& info = o.own ? o.own->info : devices.f32.cell(cell);
  if (o.own) {
    const ptrdiff_t above = o.hidden_size * (o.bidirectional ? 2 : 1);
    check(!info.reads_input || (o.input_size == o.hidden_size && (o.num_layers == 1 || above == o.hidden_size)),
          o.own->name.c_str(),
          "the equations read x elementwise, so all layers' inputs must have hidden_size features: "
          "got input_size ",
          o.input_size, ", hidden_size ", o.hidden_size,
          above == o.hidden_size ? "" : " and a bidirectional layer below another");
  }
  check(o.proj_size >= 0 && o.proj_size < o.hidden_size, "Recurrent", "proj_size is ", o.proj_size,
        ", expected 0 (none) to ", o.hidden_size - 1);
  check(o.cell_clip >= 0, "Recurrent", "cell_clip is ", o.cell_clip, ", expected 0 (none) or more");
  check(info.has_cell || (!o.proj_size && !o.peepholes && o.zoneout_cell == 0 && o.cell_clip == 0), "Recurrent",
        "got an option of the LSTM for a cell without c");
  check(info.stages > 0 || (!o.layer_norm && o.recurrent_dropout == 0 && o.zoneout == 0), "Recurrent",
        "got an option of the recurrent product or the state for a cell whose gates do not see the state");
  check(
      !o.layer_norm || info.stages == 1, "Recurrent",
      "got layer_norm for a cell whose recurrent product is made in two parts, expected one that is normalised whole");
  return {
      .cell = cell,
      .input_size = o.input_size,
      .hidden_size = o.hidden_size,
      .layers = o.num_layers,
      .directions = o.bidirectional ? 2 : 1,
      .bias = o.own ? !o.own->biases.empty() : o.bias,
      .dropout = o.dropout,
      .proj_size = o.proj_size,
      .peepholes = o.peepholes,
      .layer_norm = o.layer_norm,
      .input_dropout = o.input_dropout,
      .recurrent_dropout = o.recurrent_dropout,
      .zoneout = o.zoneout,
      .zoneout_cell = o.zoneout_cell,
      .cell_clip = o.cell_clip,
      .activations =
          o.own ? CellActivations<double>{}
                : CellActivations<double>{cell_activation("the gates' activation", o.gate_activation, info.own.gate),
                                          cell_activation("the candidate's activation", o.candidate_activation,
                                                          info.own.candidate),
                                          cell_activation("the output's activation", o.output_activation,
                                                          info.own.output)},
      .own = o.own,
  };
}

std::vector<ParameterSpec> recurrent_parameters(const Devices& devices, const RecurrentSpec& spec) {
  std::vector<ParameterSpec> specs;
  const CellInfo& info = spec.info(devices.f32);
  const int64_t gates = info.gates * spec.hidden_size;
  for (ptrdiff_t layer = 0; layer < spec.layers; ++layer)
    for (ptrdiff_t d = 0; d < spec.directions; ++d) {
      const std::string end = "_l" + std::to_string(layer) + (d ? "_reverse" : "");
      const int64_t inputs = layer ? spec.directions * spec.state_size() : spec.input_size;
      if (spec.own) {
        const int64_t H = spec.hidden_size;
        for (const std::string& name : spec.own->input_weights) specs.push_back({name + end, {H, inputs}});
        for (const std::string& name : spec.own->hidden_weights) specs.push_back({name + end, {H, H}});
        for (const auto* names : {&spec.own->biases, &spec.own->vectors})
          for (const std::string& name : *names) specs.push_back({name + end, {H}});
        continue;
      }
      specs.push_back({"weight_ih" + end, {gates, inputs}});
      if (info.stages) specs.push_back({"weight_hh" + end, {gates, spec.state_size()}});
      if (spec.bias) specs.push_back({"bias_ih" + end, {gates}});
      if (spec.bias && info.stages) specs.push_back({"bias_hh" + end, {gates}});
      if (spec.proj_size) specs.push_back({"weight_hr" + end, {spec.proj_size, spec.hidden_size}});
      if (spec.peepholes) specs.push_back({"weight_peephole" + end, {3 * spec.hidden_size}});
      if (!spec.layer_norm) continue;
      specs.push_back({"weight_norm_ih" + end, {gates}});
      specs.push_back({"weight_norm_hh" + end, {gates}});
      if (!info.has_cell) continue;
      specs.push_back({"weight_norm_c" + end, {spec.hidden_size}});
      specs.push_back({"bias_norm_c" + end, {spec.hidden_size}});
    }
  return specs;
}

template <class T>
std::vector<RecurrentOffsets> recurrent_offsets(const Devices& devices, const RecurrentSpec& spec,
                                                const Parameters<T>& parameters) {
  const CellInfo& info = spec.info(devices.of<T>());
  const bool bias = spec.bias, state = info.stages > 0, norm = spec.layer_norm, norm_c = norm && info.has_cell;
  auto entry = parameters.entries().begin();
  // Parameters of one kind lie one after the other.
  const auto next = [&](size_t count) {
    const ptrdiff_t begin = count ? entry->begin : -1;
    entry += ptrdiff_t(count);
    return begin;
  };
  std::vector<RecurrentOffsets> offsets(size_t(spec.layers * spec.directions));
  for (RecurrentOffsets& o : offsets) {  // in the order of recurrent_parameters
    if (const OwnCell* own = spec.own.get()) {
      o.weight_ih = next(own->input_weights.size());
      o.weight_hh = next(own->hidden_weights.size());
      o.bias_ih = next(own->biases.size());
      o.bias_hh = -1;
      o.weight_peephole = next(own->vectors.size());
      continue;
    }
    o.weight_ih = next(true);
    o.weight_hh = next(state);
    o.bias_ih = next(bias);
    o.bias_hh = next(bias && state);
    o.weight_hr = next(spec.proj_size > 0);
    o.weight_peephole = next(spec.peepholes);
    o.weight_norm_ih = next(norm);
    o.weight_norm_hh = next(norm);
    o.weight_norm_c = next(norm_c);
    o.bias_norm_c = next(norm_c);
  }
  return offsets;
}
template std::vector<RecurrentOffsets> recurrent_offsets(const Devices&, const RecurrentSpec&,
                                                         const Parameters<float>&);
template std::vector<RecurrentOffsets> recurrent_offsets(const Devices&, const RecurrentSpec&,
                                                         const Parameters<double>&);

template <class T>
struct Recurrent<T>::Tape : LayerTape<T> {
  std::unique_ptr<RecurrentTape<T>> stack;
  const RecurrentSpec* spec;
  Sequence<T> y;
  RecurrentPart<T> recurrent() const override { return {stack.get(), spec, nullptr}; }
};

template <class T>
Recurrent<T>::Recurrent(const Devices& devices, const RecurrentOptions& options)
    : Layer<T>(devices, recurrent_parameters(devices, recurrent_spec(devices, options))),
      spec_(recurrent_spec(devices, options)),
      return_sequences_(options.return_sequences),
      offsets_(recurrent_offsets(devices, spec_, *this->parameters())) {}

template <class T>
const char* Recurrent<T>::kind() const {
  return spec_.info(this->device()).name;
}

template <class T>
std::vector<StateSpec> Recurrent<T>::states() const {
  const ptrdiff_t count = spec_.layers * spec_.directions;
  std::vector<StateSpec> states = {{"h", count, spec_.state_size()}};
  if (spec_.info(this->device()).has_cell)
    states.push_back({spec_.own ? spec_.own->state.c_str() : "c", count, spec_.hidden_size});
  return states;
}

template <class T>
double Recurrent<T>::work() const {
  const CellInfo& cell = spec_.info(this->device());
  const double H = double(spec_.hidden_size), gates = cell.gates * H, D = double(spec_.directions);
  // An activation costs about twenty multiply-adds.
  const double other = (cell.stages ? H : 0) + 20;
  return D * gates * (double(spec_.input_size) + other) + double(spec_.layers - 1) * D * gates * (D * H + other);
}

template <class T>
auto Recurrent<T>::weights(bool transposed, int threads) -> Weights {
  return this->cached(transposed ? transposed_ : forward_, [&](Arena memory) {
    return this->device().pack({&spec_, &offsets_, this->parameters()->values(), transposed, threads},
                               std::move(memory));
  });
}

template <class T>
void Recurrent<T>::last_output(ptrdiff_t rows, StateRows<const T> final_state, T* y, ptrdiff_t y_row) const {
  const ptrdiff_t n = output_size(), from = (spec_.layers - 1) * n;
  copy_rows<T>(this->device(), rows, n, {final_state.data + from, final_state.stride}, {y, y_row});
}

template <class T>
void Recurrent<T>::forward(const Run& run, const LayerForward<T>& call) {
  const Weights packed = weights(false, run.threads);
  const Sequence<T> y = return_sequences_ ? call.y : Sequence<T>{};
  run.device<T>().forward(run,
                          {&spec_, packed.value.get(), &call.batch, call.x.features, y, call.state, call.final_state});
  if (!return_sequences_)
    last_output(call.batch.rows, {call.final_state.data, call.final_state.stride}, call.y.data, call.y.row_stride);
}

template <class T>
class Recurrent<T>::Step final : public LayerStep<T> {
 public:
  Step(Recurrent& layer, ptrdiff_t rows) : layer_(layer), stack_(layer.device().prepare_step(layer.spec_, rows)) {}

  void run(const LayerStepCall<T>& call) override {
    if (!packed_.is_of(*layer_.parameters())) packed_ = layer_.weights(false, 1);
    if (layer_.return_sequences_) {
      stack_->run(*packed_.value, call);
      return;
    }
    StepCall<T> inner = call;
    inner.y = nullptr;
    stack_->run(*packed_.value, inner);
    layer_.last_output(call.rows, read_only(call.final_state), call.y, call.y_row);
  }

 private:
  Recurrent& layer_;
  std::unique_ptr<RecurrentStep<T>> stack_;
  Weights packed_;
};

template <class T>
std::unique_ptr<LayerStep<T>> Recurrent<T>::prepare_step(ptrdiff_t rows, ptrdiff_t) {
  return std::make_unique<Step>(*this, rows);
}

template <class T>
std::unique_ptr<LayerTape<T>> Recurrent<T>::take_tape(const LayerForward<T>& call, bool training,
                                                      Memory& memory) const {
  auto tape = std::make_unique<Tape>();
  tape->spec = &spec_;
  // The whole sequence, even if only its last step is returned.
  tape->y = return_sequences_ ? call.y : take_sequence<T>(memory.device, call.batch, output_size());
  RecurrentForward<T> stack = {&spec_, nullptr, &call.batch, call.x.features, tape->y, call.state, call.final_state};
  if (call.tape_bytes != size_t(-1)) stack.tape_bytes = call.tape_bytes - own_tape_bytes(call.batch);
  tape->stack = this->device().take_tape(stack, training, memory);
  return tape;
}

template <class T>
void Recurrent<T>::record(const Run& run, const LayerForward<T>& call, LayerTape<T>& any_tape) {
  auto& tape = static_cast<Tape&>(any_tape);
  const Weights packed = weights(false, run.threads);
  run.device<T>().record(
      run, {&spec_, packed.value.get(), &call.batch, call.x.features, tape.y, call.state, call.final_state},
      *tape.stack);
  if (!return_sequences_)
    last_output(call.batch.rows, {call.final_state.data, call.final_state.stride}, call.y.data, call.y.row_stride);
}

// The whole output and the gradient of the final state, if only the last step is returned.
template <class T>
size_t Recurrent<T>::own_tape_bytes(const Batch& batch) const {
  Arena count = Arena::counting();
  if (!return_sequences_) {
    take_sequence<T>(count, batch, output_size());
    count.take<T>(size_t(batch.rows * this->state_size()));
  }
  return count.used();
}

template <class T>
TapeBytes Recurrent<T>::tape_bytes(const LayerForward<T>& call, bool training) const {
  const TapeBytes stack = this->device().tape_bytes(spec_, call.batch, training);
  const size_t own = own_tape_bytes(call.batch);
  return {stack.all + own, stack.least + own};
}

template <class T>
void Recurrent<T>::backward(const Run& run, const LayerBackward<T>& call, LayerTape<T>& any_tape, Memory& memory) {
  auto& tape = static_cast<Tape&>(any_tape);
  const Weights packed = weights(true, run.threads), again = weights(false, run.threads);
  RecurrentBackward<T> c = {};
  c.spec = &spec_;
  c.weights = packed.value.get();
  c.forward_weights = again.value.get();
  c.batch = &call.batch;
  c.dx = call.dx;
  c.state = call.state;
  c.dfinal = call.dfinal;
  c.dstate = call.dstate;
  c.memory = &memory.device;
  if (return_sequences_) {
    c.dy = call.dy;
  } else if (call.dy.data) {  // the output is the final h, so its gradient is added to that of the state
    const ptrdiff_t size = this->state_size(), n = output_size(), from = (spec_.layers - 1) * n;
    T* sum = memory.device.take<T>(size_t(call.batch.rows * size));
    copy_rows<T>(run.device<T>(), call.batch.rows, size, call.dfinal, {sum, size});
    add_rows<T>(run.device<T>(), call.batch.rows, n, {call.dy.data, call.dy.row_stride}, {sum + from, size});
    c.dfinal = {sum, size};
  }
  run.device<T>().backward(run, c, *tape.stack);
}

template <class T>
void Recurrent<T>::commit(LayerTape<T>& tape, Gradient<T>& to, int threads) {
  this->device().add_gradient(spec_, offsets_, *static_cast<Tape&>(tape).stack, to.data(), threads);
}

template class Recurrent<float>;
template class Recurrent<double>;

}  // namespace recurra
