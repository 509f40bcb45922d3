#include "cpu/device.h"
#include "cpu/recurrent/backward.h"
#include "cpu/recurrent/prepared_step.h"

namespace recurra {

template <class T>
std::unique_ptr<RecurrentWeights<T>> CpuDevice<T>::pack(const RecurrentSpec& spec,
                                                        const std::vector<RecurrentOffsets>& offsets,
                                                        const T* parameters, bool transposed, int threads,
                                                        Arena memory) const {
  return pack_weights(spec, offsets, parameters, transposed, threads, std::move(memory));
}

template <class T>
void CpuDevice<T>::forward(const Run& run, const RecurrentForward<T>& call) const {
  run_forward<T>(run, call, nullptr);
}

template <class T>
std::unique_ptr<RecurrentStep<T>> CpuDevice<T>::prepare_step(const RecurrentSpec& spec, ptrdiff_t rows,
                                                             const TwoStates<T>& states) const {
  return std::make_unique<CpuStep<T>>(spec, rows, states);
}

template <class T>
std::unique_ptr<RecurrentTape<T>> CpuDevice<T>::record(const Run& run, const RecurrentForward<T>& call,
                                                       Arena& memory) const {
  auto tape = std::make_unique<CpuTape<T>>();
  tape->memory = &memory;
  run_forward(run, call, tape.get());
  return tape;
}

template <class T>
void CpuDevice<T>::backward(const Run& run, const RecurrentBackward<T>& call, RecurrentTape<T>& any_tape) const {
  auto& tape = static_cast<CpuTape<T>&>(any_tape);
  const Shape<T> shape = {*call.spec};
  const RecurrentSpec& spec = *call.spec;
  const auto& weights = static_cast<const CpuWeights<T>&>(*call.weights);
  const Rows& rows = tape.rows;
  const ptrdiff_t group = unit_group(call.batch->rows);
  const Blocks blocks = blocks_of(shape, rows, call.batch->rows);
  const ptrdiff_t widest = rows.steps ? rows.active[0] : 0;
  const bool has_vectors = shape.vectors.gradient_size(shape.panels) > 0;
  const RowChunks chunks = row_chunks(rows, call.batch->rows, most_chunks(run.threads, 1, call.batch->rows), run.arena,
                                      has_vectors ? group : 1);

  BackwardCall<T> c = {};
  c.panels = shape.panels;
  c.hidden_size = spec.hidden_size;
  c.rows = rows;
  c.slot = blocks.slot.data();
  c.ring_rows = blocks.ring_rows;
  c.stop = run.stop;
  const ptrdiff_t state = shape.panels.padded() * widest;
  c.carry = run.arena.take<T>(size_t(state));
  c.dc = shape.info.has_cell ? run.arena.take<T>(size_t(state)) : nullptr;
  c.gates = run.arena.take<T>(size_t(c.ring_rows * shape.panels.count * shape.panels.columns));
  const ptrdiff_t depths[3] = {shape.largest_input() + 1, shape.state_size + 1, spec.hidden_size};
  for (int part = 0; part <= shape.info.stages + (spec.proj_size ? 1 : 0); ++part)
    c.operands[part] = run.arena.take<T>(size_t(depths[part] * c.ring_rows));
  T* ones = nullptr;
  if (has_vectors) {
    c.unit_slot = blocks.group_slot.data();
    c.unit_rows = blocks.most_groups;
    c.unit_sums =
        run.arena.take<T>(size_t(c.unit_rows * shape.panels.count * shape.vectors.gradient_size(shape.panels)));
    ones = run.arena.take<T>(size_t(c.unit_rows));
    std::fill_n(ones, c.unit_rows, T(1));
  }
  if (spec.layer_norm)
    c.input_gates = run.arena.take<T>(size_t(c.ring_rows * shape.panels.count * shape.panels.columns));
  c.projected_row = shape.projected_row();
  if (spec.proj_size) c.projected = run.arena.take<T>(size_t(c.ring_rows * c.projected_row));
  if (spec.zoneout > 0) c.zone_carry = zeros<T>(run.arena, widest * c.projected_row);

  take_gradients(tape, shape, *tape.memory, run.threads);
  const StretchReader<T> reader(run, call, tape);
  Sequence<T> between[2];  // gradients of the layers' inputs take turns
  for (ptrdiff_t layer = 1; layer < std::min<ptrdiff_t>(spec.layers, 3); ++layer)
    between[layer % 2] = take_sequence<T>(run.arena, call.batch->rows, rows.steps, shape.output_size);
  Sequence<const T> dy = call.dy;
  for (ptrdiff_t layer = spec.layers - 1; layer >= 0; --layer) {
    c.input_size = shape.input_size(layer);
    const Sequence<T> dx = layer ? between[layer % 2] : call.dx;
    for (ptrdiff_t d = 0; d < spec.directions; ++d) {
      const size_t index = size_t(layer * spec.directions + d);
      for (int stage = 0; stage < shape.info.stages; ++stage) c.hidden_weights[stage] = weights.hidden[stage][index];
      c.input_weights = dx.data ? weights.input[index] : nullptr;
      c.direction = {d == 1};
      c.x = tape.x[size_t(layer)];
      c.h = tape.y[size_t(layer)];
      c.h.data += d * shape.state_size;
      c.dy = dy;
      if (c.dy.data) c.dy.data += d * shape.state_size;
      c.dx = dx;
      c.add_dx = d > 0;
      c.dhn = shape.h_rows(call.dfinal, layer, d);
      c.dcn = shape.c_rows(call.dfinal, layer, d);
      c.dh0 = shape.h_rows(call.dstate, layer, d);
      c.dc0 = shape.c_rows(call.dstate, layer, d);
      if (tape.gradient_norms)
        c.gradient_norms = {tape.gradient_norms + ptrdiff_t(index) * call.batch->rows * call.batch->steps,
                            call.batch->steps, 1};
      c.options = options_of(shape, call.batch->rows, run.training, run.seed, index, run.threads, run.arena,
                             tape.gradient_norms != nullptr);
      c.options.unit_weights = weights.units[index];
      c.options.projection = weights.projection[index];
      DirectionBackward<T>{shape,
                           run,
                           blocks,
                           chunks,
                           layer,
                           c,
                           tape.gradient[index],
                           tape.unit_gradient[index],
                           tape.projection_gradient[index],
                           ones,
                           call.hook}
          .run_blocks(tape.stretches, reader);
      if (run.stopped()) return;
    }
    if (dx.data && run.training && spec.input_dropout > 0)
      dropout(run, *call.batch, shape.input_size(layer), spec.input_dropout,
              kInputMask + uint64_t(layer * spec.directions), true, read_only(dx), dx);
    if (layer && run.training && spec.dropout > 0)
      dropout(run, *call.batch, shape.output_size, spec.dropout, uint64_t(layer - 1), false, read_only(dx), dx);
    dy = read_only(dx);
  }
}

template <class T>
TapeBytes CpuDevice<T>::tape_bytes(const RecurrentSpec& spec, const Batch& batch, bool training) const {
  Arena memory;
  const Shape<T> shape = {spec};
  const Rows rows = sort_rows(batch, memory);
  return TapePlan<T>{shape, rows, batch.rows, training}.bounds();
}

template <class T>
bool CpuDevice<T>::read_tape(const RecurrentSpec& spec, const RecurrentTape<T>& any_tape, size_t index,
                             const RecurrentActivity<T>& to) const {
  const auto& tape = static_cast<const CpuTape<T>&>(any_tape);
  const Shape<T> shape = {spec};
  const Rows& rows = tape.rows;
  if (tape.stretches.count() > 1) return false;
  const SavedValues<T>& values = tape.saved[index];
  const ptrdiff_t layer = ptrdiff_t(index) / spec.directions, d = ptrdiff_t(index) % spec.directions;
  const ptrdiff_t panels = shape.panels.count, units = shape.panels.units;
  const Direction direction = {d == 1};
  for (ptrdiff_t s = 0; s < rows.steps; ++s)
    for (ptrdiff_t r = 0; r < rows.active[s]; ++r) {
      const ptrdiff_t own = rows.batch[r], row = to.order ? to.order[own] : own, time = direction.time(rows, r, s);
      std::copy_n(tape.y[size_t(layer)].at(own, time) + d * shape.state_size, shape.state_size, to.h.at(row, time));
      for (ptrdiff_t p = 0; p < panels; ++p) {
        const ptrdiff_t u = p * units, n = std::min(units, spec.hidden_size - u);
        const ptrdiff_t step_row = rows.offset[s] * panels + p * rows.active[s] + r;
        const ptrdiff_t scan_row = (rows.offset[s] + r) * panels + p;
        const T* saved = values.saved + (shape.info.stages ? step_row : scan_row) * shape.info.saved * units;
        for (ptrdiff_t k = 0; k < shape.info.saved; ++k)
          std::copy_n(saved + k * units, n, to.saved.at(row, time) + k * spec.hidden_size + u);
        if (to.c.data) std::copy_n(values.cells + step_row * units, n, to.c.at(row, time) + u);
      }
    }
  return true;
}

template <class T>
void CpuDevice<T>::add_gradient(const RecurrentSpec& spec, const std::vector<RecurrentOffsets>& offsets,
                                const RecurrentTape<T>& tape, T* gradient, int threads) const {
  add_weight_gradient(spec, offsets, static_cast<const CpuTape<T>&>(tape), gradient, threads);
}

#define RECURRA_INSTANCES(T)                                                                                      \
  template std::unique_ptr<RecurrentWeights<T>> CpuDevice<T>::pack(                                               \
      const RecurrentSpec&, const std::vector<RecurrentOffsets>&, const T*, bool, int, Arena) const;              \
  template void CpuDevice<T>::forward(const Run&, const RecurrentForward<T>&) const;                              \
  template std::unique_ptr<RecurrentStep<T>> CpuDevice<T>::prepare_step(const RecurrentSpec&, ptrdiff_t,          \
                                                                        const TwoStates<T>&) const;               \
  template std::unique_ptr<RecurrentTape<T>> CpuDevice<T>::record(const Run&, const RecurrentForward<T>&, Arena&) \
      const;                                                                                                      \
  template void CpuDevice<T>::backward(const Run&, const RecurrentBackward<T>&, RecurrentTape<T>&) const;         \
  template TapeBytes CpuDevice<T>::tape_bytes(const RecurrentSpec&, const Batch&, bool) const;                    \
  template bool CpuDevice<T>::read_tape(const RecurrentSpec&, const RecurrentTape<T>&, size_t,                    \
                                        const RecurrentActivity<T>&) const;                                       \
  template void CpuDevice<T>::add_gradient(const RecurrentSpec&, const std::vector<RecurrentOffsets>&,            \
                                           const RecurrentTape<T>&, T*, int) const;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra
