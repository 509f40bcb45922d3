"""The NaN guard: explains a non-finite loss or gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from recurra.common import seeds
from recurra.common.errors import NonFiniteError
from recurra.inspection.criterion import Objective
from recurra.inspection.nonfinite import NonFinite, first_nonfinite
from recurra.inspection.subject import Subject

if TYPE_CHECKING:
    from recurra.objective.goal import Goal
    from recurra.objective.pieces import Segment
    from recurra.objective.recorder import Recorded
    from recurra.training.model import TrainableModel


def explain(model: TrainableModel, goal: Goal, done: Sequence[Recorded], where: str) -> NoReturn:
    """Run again what was recorded since the last step, layer by layer, and raise an error that says where NaN or
    infinity arose.

    The parameters are still those of the last good step.
    """
    inputs, outputs = model.structures
    for piece, state, seed, first_row in done:
        for index, segment in enumerate(piece.segments):
            x, y = inputs.join(segment.x), outputs.join(segment.targets)
            lengths, reset, own = inputs.join(segment.lengths), inputs.join(segment.resets), seeds.derive(seed, index)
            weights = None if all(one is None for one in segment.weights) else outputs.join(segment.weights)
            subject = Subject("nonfinite", model, x, lengths, first_row=first_row)
            objective = Objective(subject, y, outputs.join(goal.losses), sample_weight=weights)
            report = first_nonfinite(subject, objective, state, reset, piece.learn, own)
            if report is not None:
                raise NonFiniteError(f"fit: {where}: {report}{_in_the_data(report, segment, first_row)}", report)
            tape = model.record(x, state, lengths, reset, piece.learn, input_grad=False, seed=own, first_row=first_row)
            state = tape.state
    # Each piece is finite; their sum is not.
    names = [name for name, gradient in model.grads.items() if not np.isfinite(gradient).all()]
    what = f"whose sum for {names[0]}" if names else "whose norm, or scale for the mean loss,"
    raise NonFiniteError(
        f"fit: {where}: got a gradient {what} overflows {model.dtype} although all its parts are finite, expected a "
        f"smaller "
        f"one; lower the learning rate or the weights, make smaller batches or accumulate fewer, or scale the data"
    )


def _in_the_data(report: NonFinite, segment: Segment, first_row: int) -> str:
    """The rows and the step of the report, which are those of the batch, as places in the data. The segment begins at
    `first_row` of the batch."""
    places = []
    if segment.rows is not None and report.rows:
        rows = ", ".join(str(segment.rows[row - first_row]) for row in report.rows[:5])
        places.append(f"row{'s' * (len(report.rows) > 1)} {rows}{', ...' * (len(report.rows) > 5)} of the data")
    if segment.first and report.step is not None:
        places.append(f"step {segment.first + report.step} of the sequence")
    return f" (in the batch; {' and '.join(places)})" if places else ""
