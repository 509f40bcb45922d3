"""Refuses invalid targets before training starts, except those of weight 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recurra.common.typing import Array
from recurra.data import row_weights
from recurra.data.convert import output_lengths
from recurra.data.rows import ArrayRows, RaggedRows, Rows, cut

if TYPE_CHECKING:
    from recurra.data.feed import OutputInfo
    from recurra.losses import Loss

#: Rows of CTC or CRF targets that are padded and checked together.
_ROWS = 1024


def check(operation: str, model: OutputInfo, x: Rows, targets: Rows, loss: Loss, weights: Rows | None = None) -> None:
    """Refuse converted targets that the loss cannot read; targets of weight 0 may be anything, such as NaN for a
    gap."""
    if model.output_size is None:
        return
    sequences = model.has_steps(x)
    if isinstance(targets, ArrayRows):
        count, *steps = x.shape[: 2 if sequences else 1]
        if model.makes_time:
            steps = [0]  # independent of the steps of x
        lengths = output_lengths(model, x.lengths) if sequences and x.lengths is not None else None
        shape = (count, *output_lengths(model, np.array(steps, np.int64)).tolist(), model.output_size)
        loss.check(operation, "y", shape, targets.array, lengths, _array(weights))
    elif loss.whole_rows:
        _check_rows(operation, model, x, targets, model.output_size, loss, _array(weights))
    else:
        _check_steps(operation, targets, model.output_size, loss, weights)


def _array(weights: Rows | None) -> Array | None:
    """The weights if they are one array, as those of whole rows are."""
    return weights.array if isinstance(weights, ArrayRows) else None


def _check_steps(operation: str, targets: RaggedRows, size: int, loss: Loss, weights: Rows | None) -> None:
    """All steps of all rows together; row by row only to name the wrong one."""
    own = None if weights is None else row_weights.of_flat(targets, weights)
    together = np.concatenate(targets.items)
    try:
        loss.check(operation, "y", (len(together), size), together, None, own)
    except (ValueError, TypeError):
        scales = [None] * len(targets) if own is None else cut(own, targets.lengths)
        for index, (item, scale) in enumerate(zip(targets.items, scales, strict=True)):
            loss.check(operation, f"y[{index}]", (len(item), size), item, None, scale)
        raise


def _check_rows(
    operation: str, model: OutputInfo, x: Rows, targets: RaggedRows, size: int, loss: Loss, weights: Array | None
) -> None:
    given = np.full(len(x), x.shape[1]) if x.lengths is None else x.lengths
    steps = output_lengths(model, given)
    for begin in range(0, len(targets), _ROWS):
        rows = slice(begin, min(begin + _ROWS, len(targets)))
        shape = (rows.stop - begin, int(steps[rows].max(initial=0)), size)
        own = None if weights is None else weights[rows]
        try:
            loss.check(operation, "y", shape, targets.batch(rows)[0], steps[rows], own)
        except (ValueError, TypeError):
            for index in range(begin, rows.stop):
                alone = None if weights is None else weights[index : index + 1]
                item = targets.items[index][None]
                loss.check(operation, f"y[{index}]", (1, int(steps[index]), size), item, None, alone)
            raise
