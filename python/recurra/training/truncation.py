"""Truncated backpropagation through time: a long sequence as short windows with carried state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recurra.common import checks
from recurra.objective.goal import Goal
from recurra.objective.pieces import Piece, Segment, check_runs_in_parts

if TYPE_CHECKING:
    from recurra.training.model import TrainableModel


@dataclass(frozen=True)
class TruncatedBPTT:
    """An optimiser step after every `k1` time steps, with gradients that reach back over the last `k2` of them.

    This is BPTT(k2; k1) of Williams and Peng (1990). The state is carried from window to window, with the same bits as
    for the whole sequence if the parameters did not change. If k2 > k1, the steps before the new ones are recomputed
    with the current parameters; the loss counts every step once.

    Attributes:
        k1: number of new steps of a window.
        k2: number of steps that the gradient flows through, at least k1; None for k1.
        burn_in: steps at the start of every sequence that only warm up the state (Kapturowski et al. 2019): no loss, no
            gradient. Sequences that continue an earlier batch have none.

    Example:
        >>> model = rc.Sequential(rc.LSTM(1, 4), rc.Linear(4, 1))
        >>> x = np.zeros((2, 1000, 1), np.float32)
        >>> truncate = rc.TruncatedBPTT(k1=100)  # ten optimiser steps for each batch
        >>> history = model.fit(
        ...     x, x, loss="mse", optimizer="adam", truncate=truncate, verbose=0
        ... )
    """

    k1: int
    k2: int | None = None
    burn_in: int = 0

    def __post_init__(self) -> None:
        name = type(self).__name__
        checks.integer(name, "k1", self.k1)
        checks.integer(name, "burn_in", self.burn_in, 0)
        if self.k2 is not None and checks.integer(name, "k2", self.k2) < self.k1:
            raise ValueError(
                f"{name}: got k2={self.k2} below k1={self.k1}, expected at least k1, as otherwise some steps would get "
                "no gradient; raise k2, or leave it out"
            )

    def pieces(self, whole: Segment, carry: bool) -> Iterator[Piece]:
        """The windows of a batch in order; `carry`: whether it continues the batch before it."""
        if not whole.has_time:
            raise ValueError(
                "fit: got truncate for x without a time axis, expected sequences (N, T, features) or tokens (N, T); "
                "leave truncate out"
            )
        begin = 0 if carry else min(self.burn_in, whole.steps)
        if begin:
            yield Piece([whole.cut(0, begin, 0)], carry=False, learn=False)
        start = begin
        for new in range(begin, whole.steps, self.k1):
            end = min(new + self.k1, whole.steps)
            after = min(end + self.k1, whole.steps)  # the end of the next window; the last one may be short
            following = end if end == whole.steps else min(end, max(begin, after - (self.k2 or self.k1)))
            bounds = ((start, following), (following, end))
            yield Piece(
                [whole.cut(first, last, max(0, new - first)) for first, last in bounds if last > first],
                carry=carry or new > 0,
                hand_on=following > start,
            )
            start = following


def check_truncatable(model: TrainableModel, goal: Goal, truncate: TruncatedBPTT) -> None:
    """Refuse models and losses that cannot be trained window by window."""
    checks.kind("fit", "truncate", truncate, TruncatedBPTT, "recurra")
    check_runs_in_parts("fit", "truncate", model)
    for loss, info in zip(goal.losses, model.output_infos(), strict=True):
        if loss.whole_rows or not info.return_sequences:
            whole = f"{type(loss).__name__}, a loss of whole rows" if loss.whole_rows else "an output for the whole row"
            raise ValueError(
                f"fit: got truncate for {whole}, expected a loss that is a sum over steps; leave truncate out, and "
                "give memory_budget if memory is short"
            )
