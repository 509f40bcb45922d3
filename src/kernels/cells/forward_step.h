// One step of all rows: panels, tiles and stages, shared out among the members of a team.
#pragma once
#include "kernels/cells/forward_norm.h"

namespace recurra::RECURRA_ISA {
namespace {

template <class Cell, class T, bool paired, bool optional>
struct ForwardStep : ForwardNorm<Cell, T, paired, optional> {
  typedef ForwardNorm<Cell, T, paired, optional> Base;
  using Base::ahead_end, Base::next, Base::of_team, Base::to_next_panel, Base::vectors, Base::weights;
  using Base::Base, Base::kCell, Base::kMerged;
  using Base::call, Base::units, Base::columns, Base::panels, Base::hidden_size, Base::input_size, Base::rows;
  using Base::state_size, Base::work, Base::first_panel, Base::last_panel, Base::barrier, Base::step, Base::active;

  // Barrier: members now see each other's writes. False if one left.
  bool meet() const { return !barrier || barrier->wait(call.team.members) != SpinBarrier::kLeft; }

  // The same at the end of a step, where a team that spends too long waiting is dissolved: the first member goes on
  // alone with all panels, and the others hand it their c and get false.
  bool meet_or_part() {
    if (!barrier) return true;
    const SpinBarrier::Answer answer = barrier->wait(call.team.members);
    if (answer != SpinBarrier::kApart) return answer == SpinBarrier::kTogether;
    if constexpr (kCell.has_cell)
      if (const ptrdiff_t from = first_panel * rows * units; call.team.member)
        copy_row(of_team(work.c) + from, work.c + from, (last_panel - first_panel) * rows * units);
    const bool goes_on = meet() && call.team.member == 0;
    barrier = nullptr;
    first_panel = 0;
    last_panel = panels;
    ahead_end = step + 1;  // the input's products made ahead are of some of the panels only
    next = {};
    return goes_on;
  }

  // From this stage on to the step's last one. `ahead`: the step's rows of the input's product, or null. False: the
  // call was stopped, or this member has left the team.
  template <int stage>
  bool run_stage(Poll& poll, const T* x, ptrdiff_t x_stride, const T* ahead) {
    const int widest = stage || kMerged
                           ? vectors(kCell.recurrent[stage])
                           : vectors(kCell.input.count > kCell.recurrent[0].count ? kCell.input : kCell.recurrent[0]);
    const Split tiles = split(active, max_rows(widest));
    // Steps walk the panels up and down in turns: the weights read last are still in a near cache.
    const bool down = (step + call.steps_before) % 2;
    const ptrdiff_t mine = last_panel - first_panel;
    if (active == 1) {  // all products, then all epilogues: neither waits for the other's latency at every panel
      const Split groups = split(mine, next.pending(state_size) ? 1 : max_panels(widest));
      for (ptrdiff_t done = 0; done < groups.tiles; ++done) {
        const ptrdiff_t i = down ? groups.tiles - 1 - done : done, p = first_panel + groups.begin(i);
        this->template multiply_tile_of<stage>(p, groups.size(i), 0, 1, x, x_stride, ahead, work.tile + p * columns);
        if (poll.stopped(groups.size(i) * columns * (hidden_size + input_size))) return false;
      }
      this->template epilogue<stage>(first_panel, 0, mine, true, work.tile + first_panel * columns, columns);
    } else {
      for (ptrdiff_t done = 0; done < mine; ++done) {
        const ptrdiff_t p = down ? last_panel - 1 - done : first_panel + done;
        to_next_panel = done + 1 == mine ? 0 : down ? -weights.layout.panel() : weights.layout.panel();
        for (ptrdiff_t i = 0; i < tiles.tiles; ++i) {
          if (stage == 0) this->prefetch_outputs(p, tiles.begin(i), tiles.size(i));
          this->template multiply_tile_of<stage>(p, 1, tiles.begin(i), tiles.size(i), x, x_stride, ahead, work.tile);
          this->template epilogue<stage>(p, tiles.begin(i), tiles.size(i), false, work.tile, columns);
        }
        if (poll.stopped(active * columns * (hidden_size + input_size))) return false;
      }
    }
    if constexpr (stage + 1 < kCell.stages)
      return meet() && run_stage<stage + 1>(poll, x, x_stride, ahead);
    else
      return meet_or_part();
  }
};

}  // namespace
}  // namespace recurra::RECURRA_ISA
