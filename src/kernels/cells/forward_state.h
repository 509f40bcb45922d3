// The state of a running forward, and where its rows, panels and steps lie in memory.
#pragma once
#include "kernels/cells/forward_ahead.h"
#include "kernels/cells/lanes.h"
#include "kernels/cells/optional_unit.h"

namespace recurra::RECURRA_ISA {
namespace {

// Cells with panels of half a vector's units: their columns fill whole vectors even so.
constexpr bool has_half_panels(const CellInfo& cell) {
  return cell.groups == 4 && cell.has_cell && !cell.scanned && kRegisters == 32 && kVectorBytes >= 32;
}

template <class Cell, class T, bool paired, bool optional>
struct ForwardState {
  typedef Lanes<T, paired> L;
  typedef Vec<T> V;
  typedef typename UnitOf<V, optional>::type StepUnit;
  static constexpr CellInfo kCell = Cell::kInfo;
  static constexpr int kStrips = strips_of(kCell);
  static constexpr bool kMerged =
      kCell.input.begin == kCell.recurrent[0].begin && kCell.input.count == kCell.recurrent[0].count;

  explicit ForwardState(const ForwardCall<T>& c) : call(c) {}

  const ForwardCall<T>& call;
  const ptrdiff_t units = call.panels.units, columns = call.panels.columns, panels = call.panels.count;
  const ptrdiff_t strip_columns = columns / kStrips;
  const ptrdiff_t hidden_size = call.hidden_size, input_size = call.input_size;
  const ptrdiff_t rows = call.last - call.first;
  const PackedWeights<T>& weights = *call.weights;
  const CellOptions<T>& options = call.options;
  const ptrdiff_t state_size = optional ? options.state_size : hidden_size;
  const bool far = call.far();
  const ForwardScratch<T> work = plan();
  // A team shares one state and one operand of the second stage, in the first member's scratch; each member has its own
  // copy of the rest.
  T* const state[2] = {of_team(work.h[0]), of_team(work.h[1])};
  T* const operand = kCell.stages > 1 ? of_team(work.operand) : nullptr;
  // This member's panels.
  ptrdiff_t first_panel = call.team.barrier ? panels * call.team.member / call.team.members : 0;
  ptrdiff_t last_panel = call.team.barrier ? panels * (call.team.member + 1) / call.team.members : panels;
  SpinBarrier* barrier = call.team.barrier;  // null: alone

  const int64_t tape_from = call.rows.offset[call.begin];

  // Of the current step:
  ptrdiff_t step = 0, active = 0, ahead_end = call.begin;
  T *h_in = nullptr, *h_out = nullptr, *cells = work.c;
  InputAhead<T> next = {};      // of the block of steps after this one
  ptrdiff_t to_next_panel = 0;  // bytes from the current panel's weights to those of the one that follows it

  ForwardScratch<T> plan() const {
    auto* const head = reinterpret_cast<ForwardScratch<T>*>(call.scratch);
    if (!call.planned)
      *head = ForwardScratch<T>::plan(kCell, call.panels, options, input_size, rows, call.rows.steps, call.caches,
                                      call.saved != nullptr, call.scratch);
    return *head;
  }

  // The first member's counterpart of a place in this member's scratch.
  T* of_team(T* mine) const {
    return call.team.barrier ? static_cast<T*>(call.team.scratch) + (mine - call.scratch) : mine;
  }
  ptrdiff_t batch(ptrdiff_t r) const { return call.rows.batch[call.first + r]; }
  const T* input(ptrdiff_t r, ptrdiff_t s) const {
    return call.x.at(batch(r), call.direction.time(call.rows, call.first + r, s));
  }
  ptrdiff_t active_at(ptrdiff_t s) const {
    const ptrdiff_t n = call.rows.active[s] - call.first;
    return n < 0 ? 0 : n < rows ? n : rows;
  }
  int vectors(Range range) const { return int(range.count * units / kLanes<T>); }

  // The values that row r of panel p saves for BPTT, and its c on the tape.
  T* saved(ptrdiff_t p, ptrdiff_t r) const {
    const ptrdiff_t width = kCell.saved * units;
    if (!call.saved) return work.saved ? work.saved + (p * rows + r) * width : nullptr;
    return call.saved + tape_row(p, r) * width;
  }
  T* tape_c(ptrdiff_t p, ptrdiff_t r) const { return call.cells + tape_row(p, r) * units; }
  ptrdiff_t tape_row(ptrdiff_t p, ptrdiff_t r) const {
    return (call.rows.offset[step] - tape_from) * panels + p * call.rows.active[step] + call.first + r;
  }

  const T* recurrent_operand() const {
    if constexpr (optional)
      if (work.masked) return work.masked;
    return h_in;
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
