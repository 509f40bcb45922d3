// The backward of a stack on the CPU: layers from the last to the first, the directions of each one after the other.
#pragma once
#include <algorithm>

#include "cpu/recurrent/direction_backward.h"

namespace recurra {

template <class T>
class StackBackward {
 public:
  StackBackward(const Run& run, const RecurrentBackward<T>& call, CpuTape<T>& tape)
      : run_(run),
        call_(call),
        tape_(tape),
        blocks_(blocks_of(shape_, tape.rows, call.batch->rows)),
        chunks_(row_chunks(tape.rows, call.batch->rows, most_chunks(run.threads, 1, call.batch->rows), run.arena,
                           has_vectors_ ? unit_group(call.batch->rows) : 1)) {
    take_work();
    take_gradients(tape, shape_, *call.memory, run.threads);
  }

  void run() {
    const StretchReader<T> reader(run_, call_, tape_);
    Sequence<T> between[2];  // two buffers take turns for the gradients of the layers' inputs
    for (ptrdiff_t layer = 1; layer < std::min<ptrdiff_t>(spec_.layers, 3); ++layer)
      between[layer % 2] = take_sequence<T>(run_.arena, call_.batch->rows, tape_.rows.steps, shape_.output_size);
    Sequence<const T> dy = call_.dy;
    for (ptrdiff_t layer = spec_.layers - 1; layer >= 0; --layer) {
      const Sequence<T> dx = layer ? between[layer % 2] : call_.dx;
      for (ptrdiff_t d = 0; d < spec_.directions; ++d) {
        run_direction(layer, d, dy, dx, reader);
        if (run_.stopped()) return;
      }
      if (dx.data && spec_.input_dropout > 0)
        drop(shape_.input_size(layer), spec_.input_dropout, kInputMask + uint64_t(layer * spec_.directions), true, dx);
      if (layer && spec_.dropout > 0) drop(shape_.output_size, spec_.dropout, uint64_t(layer - 1), false, dx);
      dy = read_only(dx);
    }
  }

 private:
  T* take(ptrdiff_t n) const { return run_.arena.template take<T>(size_t(n)); }

  static void set_ring(BackwardCall<T>& call, const Ring<T>& ring) {
    call.gates = ring.gates;
    std::copy(std::begin(ring.operands), std::end(ring.operands), call.operands);
  }

  // The memory that all layers and directions work in, in turns.
  void take_work() {
    const Panels& panels = shape_.panels;
    const ptrdiff_t widest = tape_.rows.steps ? tape_.rows.active[0] : 0;
    work_.cell = &shape_.cell;
    work_.panels = panels;
    work_.hidden_size = spec_.hidden_size;
    work_.rows = tape_.rows;
    work_.slot = blocks_.slot.data();
    work_.ring_rows = blocks_.ring_rows;
    work_.stop = run_.stop;
    work_.caches = caches();
    work_.carry = take(panels.padded() * widest);
    work_.dc = shape_.info.has_cell ? take(panels.padded() * widest) : nullptr;
    work_.outer = gradient_is_outer(shape_, tape_.rows);
    if (!work_.outer) set_ring(work_, take_ring(shape_, shape_.largest_input(), work_.ring_rows, false, run_.arena));
    if (has_vectors_) {
      work_.unit_slot = blocks_.group_slot.data();
      work_.unit_rows = blocks_.most_groups;
      work_.unit_sums = take(work_.unit_rows * panels.count * shape_.vectors.gradient_size(panels));
      ones_ = take(work_.unit_rows);
      std::fill_n(ones_, work_.unit_rows, T(1));
    }
    if (spec_.layer_norm) work_.input_gates = take(work_.ring_rows * panels.count * panels.columns);
    work_.projected_row = shape_.projected_row();
    if (spec_.proj_size) work_.projected = take(work_.ring_rows * work_.projected_row);
    if (spec_.zoneout > 0) work_.zone_carry = zeros<T>(run_.arena, widest * work_.projected_row);
  }

  void run_direction(ptrdiff_t layer, ptrdiff_t d, Sequence<const T> dy, Sequence<T> dx,
                     const StretchReader<T>& reader) const {
    const size_t index = size_t(layer * spec_.directions + d);
    BackwardCall<T> c = work_;
    if (c.outer) set_ring(c, tape_.factors[index]);
    c.input_size = shape_.input_size(layer);
    for (int stage = 0; stage < shape_.info.stages; ++stage) c.hidden_weights[stage] = weights_.hidden[stage][index];
    c.input_weights = dx.data ? weights_.input[index] : nullptr;
    c.direction = {d == 1};
    c.x = tape_.x[size_t(layer)];
    c.h = tape_.y[size_t(layer)];
    c.h.data += d * shape_.state_size;
    c.dy = dy;
    if (c.dy.data) c.dy.data += d * shape_.state_size;
    c.dx = dx;
    c.add_dx = d > 0;
    c.dhn = shape_.h_rows(call_.dfinal, layer, d);
    c.dcn = shape_.c_rows(call_.dfinal, layer, d);
    c.dh0 = shape_.h_rows(call_.dstate, layer, d);
    c.dc0 = shape_.c_rows(call_.dstate, layer, d);
    if (tape_.gradient_norms)
      c.gradient_norms = {tape_.gradient_norms + ptrdiff_t(index) * call_.batch->rows * call_.batch->steps,
                          call_.batch->steps, 1};
    c.options = options_of(shape_, call_.batch->rows, run_.training, run_.random, index, run_.threads, run_.arena,
                           tape_.gradient_norms != nullptr);
    c.options.unit_weights = weights_.units[index];
    c.options.projection = weights_.projection[index];
    DirectionBackward<T>{shape_,
                         run_,
                         blocks_,
                         chunks_,
                         layer,
                         c,
                         tape_.gradient[index],
                         tape_.unit_gradient[index],
                         tape_.projection_gradient[index],
                         ones_,
                         call_.hook}
        .run_blocks(tape_.stretches, reader);
  }

  void drop(ptrdiff_t features, double rate, uint64_t stream, bool one_mask, Sequence<T> dx) const {
    if (run_.training) cpu_device<T>().dropout(run_, *call_.batch, features, rate, stream, one_mask, read_only(dx), dx);
  }

  const Run& run_;
  const RecurrentBackward<T>& call_;
  CpuTape<T>& tape_;
  const Shape<T> shape_ = {*call_.spec};
  const RecurrentSpec& spec_ = shape_.spec;
  const CpuWeights<T>& weights_ = static_cast<const CpuWeights<T>&>(*call_.weights);
  const bool has_vectors_ = shape_.vectors.gradient_size(shape_.panels) > 0;
  const Blocks blocks_;
  const RowChunks chunks_;
  BackwardCall<T> work_ = {};
  T* ones_ = nullptr;  // [unit row]
};

}  // namespace recurra
