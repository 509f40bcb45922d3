"""Connectionist temporal classification: the loss of targets that are not aligned with the steps."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array, Rows
from recurra.data import convert, rows
from recurra.losses.loss import Checked, Loss, LossValue


class CTC(Loss):
    """-log p(labels), in nats, summed over rows (Graves et al. 2006).

    p is the total probability, under the softmax of the predictions, of all paths that collapse to the labels: repeated
    symbols are merged, then blanks removed. Predictions are logits (N, T, C). Targets are a list of N integer arrays,
    the labels of each row, of any length, also empty; or one array (N, S), padded with -1. `fit` takes the same
    targets. Lengths are those of the predictions.

    A target is infeasible if its probability is 0: it needs more steps than there are (one per label, and one more
    between two equal labels), or a symbol whose logit is -infinity, or 1e6 below the largest of its step.

    The count is the number of rows that have steps and a feasible target: a row of length 0 never counts, even with an
    empty target. PyTorch's reduction="mean" differs: it divides each row's loss by its number of labels first.

    Args:
        blank: the class of the blank.
        infeasible: "ignore" leaves infeasible rows out: they add 0 to sum and count, and their gradient is 0 (as with
            PyTorch's zero_infinity=True, which counts them). "error" refuses them.

    Example:
        >>> loss = rc.losses.CTC(blank=0)
        >>> value = loss(np.zeros((2, 10, 4), np.float32), [[1, 2], [3]])
        >>> round(value.mean, 3), value.gradient.shape
        (8.757, (2, 10, 4))
    """

    whole_rows: ClassVar[bool] = True
    unaligned: ClassVar[bool] = True
    padding: ClassVar[int] = -1

    def __init__(self, blank: int = 0, infeasible: str = "ignore") -> None:
        name = type(self).__name__
        self.blank = checks.integer(name, "blank", blank, 0)
        self.infeasible = checks.choice(name, "infeasible", infeasible, ("ignore", "error"))

    def _read(self, operation: str, name: str, targets: Rows, dtype: np.dtype[Any]) -> Array:
        if not rows.is_list(targets):
            return super()._read(operation, name, targets, dtype)
        if not len(targets):  # type: ignore[arg-type]
            return np.zeros((0, 0), np.int64)
        return convert.unaligned(operation, name, targets, dtype, self).batch(slice(None))[0]

    def convert(self, operation: str, name: str, targets: Array, dtype: np.dtype[Any]) -> Array:
        """Labels as int64: (N, S), or (S,) of one row."""
        if targets.dtype.kind not in "iu":
            raise TypeError(
                f"{operation}: got {name} of {targets.dtype}, expected integer labels for CTC; write "
                f"{name}.astype(np.int64)"
            )
        if targets.ndim == 1 and targets.min(initial=0) < 0:  # would look like padding once the list is padded
            raise ValueError(
                f"{operation}: got the label {targets.min()} in {name}, expected 0 or more; leave padding out of lists"
            )
        return checks.int64(targets)

    def check(
        self,
        operation: str,
        name: str,
        shape: tuple[int, ...],
        targets: Array,
        lengths: Array | None = None,
        weights: Array | None = None,
    ) -> None:
        """Refuse converted targets, (N, S), that do not fit predictions of `shape`, unless they do not count."""
        classes = shape[-1]
        if self.blank >= classes:
            raise ValueError(
                f"{operation}: got predictions of {classes} classes with blank={self.blank}, expected the blank to be "
                "one of them; change blank, or the size of the last layer"
            )
        if len(shape) != 3 or targets.ndim != 2 or len(targets) != shape[0]:
            raise ValueError(
                f"{operation}: got {name} of shape {targets.shape} and predictions of shape {shape}, expected "
                "predictions (N, T, C) and N rows of labels, (N, S) or a list of N arrays; give a time axis, and "
                "labels for each row"
            )
        if weights is not None:
            targets = np.where(weights[:, None] > 0, targets, self.padding)  # rows keep their numbers
        used = targets != self.padding
        if (used[:, 1:] & ~used[:, :-1]).any():
            raise ValueError(
                f"{operation}: got labels after {self.padding} in a row of {name}, expected it only as padding at the "
                "end of a row; move it to the end, or give a list of arrays"
            )
        if used.any():
            self._check_values(operation, name, targets[used], classes)
        if self.infeasible == "error":
            steps = np.full(shape[0], shape[1]) if lengths is None else lengths
            self._refuse(operation, name, targets, steps, steps_needed(targets) > steps)

    def _refuse(self, operation: str, name: str, targets: Array, steps: Array, infeasible: Array) -> None:
        for row in np.flatnonzero(infeasible)[:1]:
            place = name if "[" in name else f"row {row} of {name}"
            labels = int((targets[row] != self.padding).sum())
            raise ValueError(
                f"{operation}: got {labels} labels in {place}, which need {steps_needed(targets)[row]} steps, and "
                f"predictions of {steps[row]} steps that give them a probability of 0, expected a feasible target; "
                "make the predictions longer, leave the row out, or use CTC(infeasible='ignore')"
            )

    def _check_values(self, operation: str, name: str, valid: Array, features: int) -> None:
        low, high = int(valid.min()), int(valid.max())
        if low < 0 or high >= features:
            raise ValueError(
                f"{operation}: got labels from {low} to {high} in {name}, expected 0 to {features - 1}, as the "
                f"predictions have {features} classes; number the labels from 0, or make the last layer give "
                f"{high + 1} features"
            )
        if (valid == self.blank).any():
            raise ValueError(
                f"{operation}: got the blank, {self.blank}, in {name}, expected labels only; if it is padding, use "
                f"{self.padding} or give a list of arrays, else renumber the labels, or change blank"
            )

    def _compute(self, operation: str, batch: Checked, gradient: bool) -> LossValue:
        total, gradients, feasible = _core.ctc(*batch, gradient, self.blank)
        count = self._count_rows(operation, batch.predictions.shape, batch[1:], feasible)
        wanted = True if batch.weights is None else batch.weights > 0
        return LossValue(total, count, gradients, int(np.count_nonzero(~feasible & wanted)))

    def _count(
        self, operation: str, shape: tuple[int, ...], targets: Array, lengths: Array | None, weights: Array | None
    ) -> float:
        feasible = steps_needed(targets) <= (shape[1] if lengths is None else lengths)
        return self._count_rows(operation, shape, (targets, lengths, weights), feasible)

    def _count_rows(
        self, operation: str, shape: tuple[int, ...], batch: tuple[Array, Array | None, Array | None], feasible: Array
    ) -> float:
        """The number, or weight, of rows that have steps and a feasible target."""
        targets, lengths, weights = batch
        steps = np.full(len(targets), shape[1]) if lengths is None else lengths
        used = np.ones(len(targets)) if weights is None else weights
        if self.infeasible == "error":
            self._refuse(operation, "targets", targets, steps, ~feasible & (used > 0))
        total = used[feasible & (steps > 0)].sum()
        return int(total) if weights is None else float(total)


def steps_needed(targets: Array) -> Array:
    """(N,) minimum steps for rows of labels (N, S): one per label, and a blank between two equal labels."""
    used = targets != CTC.padding
    needed: Array = used.sum(-1) + (used[:, 1:] & (targets[:, 1:] == targets[:, :-1])).sum(-1)
    return needed
