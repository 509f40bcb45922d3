#include "program/step.h"

#include <algorithm>

#include "layers/attention_decoder.h"

namespace recurra {

template <class T>
ProgramStep<T>::ProgramStep(const Program<T>& program, ptrdiff_t rows, const std::vector<StepMemory<T>>& memories)
    : values_(program.graph().values().size()),
      buffers_(values_.size()),
      outputs_(program.graph().outputs()),
      inputs_(size_t(program.graph().inputs())),
      rows_(rows),
      memory_(program.devices()) {
  const Graph<T>& graph = program.graph();
  const auto features = [&](ptrdiff_t v) {
    const auto& value = graph.values()[size_t(v)];
    return value.tokens ? 1 : value.features;
  };
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto& node = graph.nodes()[i];
    Part part = {};
    const StepMemory<T>* attended = nullptr;
    part.state = graph.state_offset(i);
    part.input = node.inputs[0];
    part.y = node.output;
    part.other_inputs.assign(node.inputs.begin() + 1, node.inputs.end());
    for (ptrdiff_t v : part.other_inputs) {
      const auto found = std::find_if(memories.begin(), memories.end(), [v](const auto& m) { return m.value == v; });
      part.fixed.push_back(found != memories.end());
      if (part.fixed.back()) attended = &*found;
      part.others.push_back(part.fixed.back() ? found->input
                                              : OtherInput<T>{{rows, 1, nullptr, nullptr, 0, 0}, features(v), {}});
    }
    if (auto* decoder = attended ? dynamic_cast<AttentionDecoder<T>*>(node.layer.get()) : nullptr)
      part.step = decoder->prepare_search({program.devices(), memory_.device, memory_.host, 1, nullptr, false, {}}, 1,
                                          attended->input, attended->weights, memory_);
    else
      part.step = node.layer->prepare_step(rows, features(node.inputs[0]));
    parts_.push_back(std::move(part));
    if (graph.values()[size_t(node.output)].output >= 0) continue;  // the caller's
    const ptrdiff_t width = features(node.output);
    T* const y = memory_.device.take<T>(size_t(rows * width));
    buffers_[size_t(node.output)] = {y, width};
    values_[size_t(node.output)] = {y, width, {}};
  }
}

template <class T>
void ProgramStep<T>::run(const ProgramStepCall<T>& call) {
  std::copy_n(call.inputs, inputs_, values_.begin());
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const size_t v = size_t(outputs_[i]);
    buffers_[v] = call.outputs[i];
    values_[v] = {buffers_[v].y, buffers_[v].row, {}};
  }
  LayerStepCall<T> c = {};
  c.rows = call.rows;
  c.reset = call.reset;
  c.reset_row = call.reset_row;
  c.stop = call.stop;
  for (Part& part : parts_) {
    const StepInput<T>& input = values_[size_t(part.input)];
    const StepOutput<T>& output = buffers_[size_t(part.y)];
    c.x = input.x;
    c.x_row = input.row;
    c.tokens = input.tokens;
    c.y = output.y;
    c.y_row = output.row;
    c.state = {call.state.data + part.state, call.state.stride};
    c.final_state = {call.final_state.data + part.state, call.final_state.stride};
    for (size_t k = 0; k < part.others.size(); ++k) {
      if (part.fixed[k]) continue;
      const StepInput<T>& other = values_[size_t(part.other_inputs[k])];
      part.others[k].batch.rows = call.rows;
      part.others[k].x = {other.x, other.row, other.row};
    }
    c.others = part.others.data();
    c.other_count = ptrdiff_t(part.others.size());
    part.step->run(c);
  }
}

template class ProgramStep<float>;
template class ProgramStep<double>;

}  // namespace recurra
