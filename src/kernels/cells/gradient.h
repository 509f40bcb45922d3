// The gradient of the weights, from the operands and gate gradients that a block of a backward has left in the ring.
#pragma once
#include "kernels/cells/call.h"
#include "kernels/gemm/tile.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class T>
void gradient(const GradientCall<T>& call) {
  const int nv = int(call.width / kLanes<T>);
  const Split tiles = split(call.rows, max_rows(nv));
  for (ptrdiff_t i = call.first; i < call.last; ++i) {
    Segment<T> runs[3];
    for (ptrdiff_t n = 0; n < call.run_count; ++n) {
      const RingRun& run = call.runs[n];
      runs[n] = {call.operand + tiles.begin(i) * call.ring_rows + run.begin * tiles.size(i), tiles.size(i),
                 call.gates + run.begin * call.gates_row, run.count};
    }
    T* const out = call.out + tiles.begin(i) * call.width;
    const Tile<T> tile = {runs, call.run_count, bytes_of<T>(call.gates_row), nullptr, 0, out, call.width};
    add(tile, 0, tiles.size(i), nv);
  }
}

}  // namespace
}  // namespace recurra::RECURRA_ISA
