#include "program/step.h"

namespace recurra {

template <class T>
ProgramStep<T>::ProgramStep(const Program<T>& program, ptrdiff_t rows, const TwoStates<T>& states) {
  ptrdiff_t features = program.takes_tokens() ? 1 : program.input_size();
  for (size_t i = 0; i < program.layers_.size(); ++i) {
    Layer<T>& layer = *program.layers_[i];
    TwoStates<T> own = states;
    for (StateRows<T>& state : own)
      if (state.data) state.data += program.state_offsets_[i];
    auto step = layer.prepare_step(rows, features, own);
    if (layer.output_size()) features = layer.output_size();
    const bool last = i + 1 == program.layers_.size();
    parts_.push_back({std::move(step), last ? nullptr : memory_.take<T>(size_t(rows * features)), features});
  }
}

template <class T>
void ProgramStep<T>::run(const LayerStepCall<T>& call) {
  if (parts_.size() == 1) return parts_.front().step->run(call);
  LayerStepCall<T> c = call;
  for (const Part& part : parts_) {
    c.y = part.y ? part.y : call.y;
    c.y_row = part.y ? part.y_row : call.y_row;
    part.step->run(c);
    c.x = c.y;
    c.x_row = c.y_row;
  }
}

template class ProgramStep<float>;
template class ProgramStep<double>;

}  // namespace recurra
