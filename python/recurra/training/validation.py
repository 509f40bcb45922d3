"""Validation data of `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recurra.common import checks
from recurra.data.sources import is_source, refuse_weights
from recurra.objective.goal import Goal
from recurra.objective.sources import RowSource, Source, Steps, make_source

if TYPE_CHECKING:
    from recurra.objective.metric_group import MetricGroup
    from recurra.training.model import TrainableModel


def validation_source(
    model: TrainableModel,
    goal: Goal,
    training: Source,
    metrics: MetricGroup,
    data: Any,
    fraction: Any,
    batch_size: int,
    epochs: int,
    steps: int | None,
) -> Source | None:
    """The source for validation_data or validation_split of `fit`; the latter removes its rows from the training
    source."""
    fraction = checks.number("fit", "validation_split", fraction, 0.0, 1.0)
    if data is None and steps is not None:
        raise ValueError(
            f"fit: got validation_steps={steps!r} without validation_data, expected batches to take them from; give "
            f"validation_data, or leave validation_steps out"
        )
    if data is None:
        if not fraction:
            return None
        if isinstance(training, Steps):
            raise ValueError(
                "fit: got validation_split with steps_per_epoch, expected one of the two; give validation_data instead"
            )
        if not isinstance(training, RowSource):
            raise ValueError(
                "fit: got validation_split with a source of batches, expected rows; give validation_data instead"
            )
        return training.split(fraction)
    operation, limit = "fit: validation_data", ("validation_steps", steps)
    if fraction:
        raise ValueError(
            f"{operation}: got validation_split={fraction:g} as well, expected one of the two; leave one out"
        )
    if is_source(data):
        return make_source(operation, model, goal, data, None, None, batch_size=batch_size, epochs=epochs, steps=limit)
    if not isinstance(data, tuple | list) or len(data) not in (2, 3, 4):
        got = f"of {len(data)} parts" if isinstance(data, tuple | list) else f"of type {type(data).__name__}"
        raise ValueError(
            f"fit: got validation_data {got}, expected (x, y), (x, y, lengths) or (x, y, lengths, sample_weight); put "
            f"them in a tuple"
        )
    refuse_weights(operation, data)
    x, y, lengths, weight = [*data, None, None][:4]
    return make_source(
        operation, model, goal, x, y, lengths, metrics=metrics, batch_size=batch_size, sample_weight=weight, steps=limit
    )
