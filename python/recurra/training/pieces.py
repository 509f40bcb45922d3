"""What is recorded at a time: batches, or windows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recurra.feed import Outputs
from recurra.typing import Array


@dataclass(frozen=True)
class Segment:
    """Steps of some rows: what a call takes and what the outputs shall be; lists with one entry per input or output.

    `lead` steps at the beginning count for nothing in the loss.
    """

    x: Sequence[Array]
    lengths: Sequence[Array | None]
    resets: Sequence[Array | None]
    targets: Sequence[Array]
    weights: Sequence[Array | None]
    outputs: Outputs
    lead: int = 0

    @property
    def steps(self) -> int:
        """The length of the time axis."""
        return max(int(one.shape[1]) for one, rows in zip(self.x, self.outputs.inputs, strict=True) if rows.has_time)

    def cut(self, begin: int, end: int, lead: int) -> Segment:
        """Steps `begin` to `end` of it; all inputs and outputs with a time axis share that axis."""

        def part(array: Array | None, axes: int) -> Array | None:
            return array if array is None or array.ndim < axes else np.ascontiguousarray(array[:, begin:end])

        sequence = [rows.has_time for rows in self.outputs.inputs]
        return replace(
            self,
            x=[one[:, begin:end] if timed else one for one, timed in zip(self.x, sequence, strict=True)],
            lengths=[None if one is None else np.clip(one - begin, 0, end - begin) for one in self.lengths],
            resets=[part(one, 2) for one in self.resets],
            targets=[np.ascontiguousarray(one[:, begin:end]) for one in self.targets],
            weights=[part(one, 2) for one in self.weights],
            lead=lead,
        )

    def output_lengths(self) -> list[Array | None]:
        """The valid steps of each output."""
        return self.outputs.lengths(self.outputs.join_inputs(self.lengths))

    @property
    def counting(self) -> Segment:
        """The steps that count."""
        return self.cut(min(self.lead, self.steps), self.steps, 0) if self.lead else self


@dataclass(frozen=True)
class Piece:
    """Segments that follow each other, through which gradients flow back together."""

    segments: Sequence[Segment]
    carry: bool = False  # begins with the state handed on by the piece before it, instead of zeros
    learn: bool = True  # or is only run, for the state
    hand_on: bool = True  # the next piece begins where the first segment ends; else where this piece began
