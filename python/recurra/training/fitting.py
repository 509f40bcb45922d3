"""The arguments of `fit` and `evaluate`, checked and put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recurra import checks
from recurra.callbacks import Callback
from recurra.data.sources import is_source
from recurra.goal import Goal
from recurra.optim import Optimizer
from recurra.training import evaluation
from recurra.training.history import History
from recurra.training.loop import Settings, Training
from recurra.training.metric_group import MetricGroup
from recurra.training.sources import RowSource, Source, make_source
from recurra.training.truncation import check_truncatable

if TYPE_CHECKING:
    from recurra.training.model import TrainableModel


def fit(
    model: TrainableModel,
    x: Any,
    y: Any,
    lengths: Any,
    *,
    loss: Any,
    optimizer: Any,
    loss_weights: Any,
    metrics: Any,
    epochs: Any,
    batch_size: Any,
    sample_weight: Any,
    class_weight: Any,
    validation_data: Any,
    validation_split: Any,
    callbacks: Any,
    clip_norm: Any,
    clip_value: Any,
    accumulate: Any,
    bucket: Any,
    truncate: Any,
    memory_budget: Any,
    shuffle: Any,
    nan_guard: Any,
    seed: Any,
    verbose: Any,
) -> History:
    """See `TrainableModel.fit`."""
    operation = "fit"
    checks.kind(operation, "optimizer", optimizer, Optimizer, "optim.Adam")
    settings = Settings(
        epochs=checks.integer(operation, "epochs", epochs, 0),
        clip_norm=None if clip_norm is None else checks.number(operation, "clip_norm", clip_norm),
        clip_value=None if clip_value is None else checks.number(operation, "clip_value", clip_value),
        accumulate=checks.integer(operation, "accumulate", accumulate),
        truncate=truncate,
        memory_budget=memory_budget,
        nan_guard=checks.flag(operation, "nan_guard", nan_guard),
        verbose=checks.choice(operation, "verbose", verbose, (0, 1, 2)),
    )
    batch_size = checks.integer(operation, "batch_size", batch_size)
    validation_split = checks.number(operation, "validation_split", validation_split, 0.0, 1.0)
    callbacks = _callbacks(callbacks)
    goal = Goal(operation, model, loss, loss_weights, class_weight)
    counting = MetricGroup(operation, model, metrics)
    if truncate is not None:
        check_truncatable(model, goal, truncate)
    source = make_source(
        operation,
        model,
        goal,
        x,
        y,
        lengths,
        batch_size=batch_size,
        sample_weight=sample_weight,
        shuffle=checks.flag(operation, "shuffle", shuffle),
        bucket=bucket if bucket is True or bucket is False else checks.integer(operation, "bucket", bucket),
        epochs=epochs,
    )
    validation = _validation(
        model, goal, source, validation_data, validation_split, batch_size=batch_size, epochs=settings.epochs
    )
    training = Training(model, optimizer, goal, source, validation, counting, callbacks, settings, seed)
    return training.run()


def _validation(
    model: TrainableModel,
    goal: Goal,
    source: Source,
    validation_data: Any,
    fraction: float,
    *,
    batch_size: int,
    epochs: int,
) -> Source | None:
    if validation_data is None:
        if not fraction:
            return None
        if not isinstance(source, RowSource):
            raise ValueError(
                "fit: got validation_split for batches ready made, expected rows; give validation_data instead"
            )
        return source.split(fraction)
    operation = "fit: validation_data"
    if fraction:
        raise ValueError(f"{operation}: got validation_split={fraction:g}, too, expected one of the two; leave one out")
    if is_source(validation_data):
        return make_source(operation, model, goal, validation_data, None, None, batch_size=batch_size, epochs=epochs)
    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3, 4):
        few = isinstance(validation_data, tuple | list)
        got = f"of {len(validation_data)} parts" if few else f"of type {type(validation_data).__name__}"
        raise ValueError(
            f"fit: got validation_data {got}, expected (x, y), (x, y, lengths) or (x, y, lengths, sample_weight); put "
            f"them in a tuple"
        )
    x, y, lengths, weight = [*validation_data, None, None][:4]
    return make_source(operation, model, goal, x, y, lengths, batch_size=batch_size, sample_weight=weight)


def evaluate(
    model: TrainableModel,
    x: Any,
    y: Any,
    lengths: Any,
    *,
    loss: Any,
    loss_weights: Any,
    metrics: Any,
    sample_weight: Any,
    batch_size: Any,
    verbose: Any,
) -> Any:
    """See `TrainableModel.evaluate`."""
    operation = "evaluate"
    batch_size = checks.integer(operation, "batch_size", batch_size)
    show = checks.choice(operation, "verbose", verbose, (0, 1)) == 1
    goal, counting = Goal(operation, model, loss, loss_weights), MetricGroup(operation, model, metrics)
    source = make_source(operation, model, goal, x, y, lengths, batch_size=batch_size, sample_weight=sample_weight)
    found = evaluation.evaluate(model, goal, source, counting, show=show)
    return found if counting.names else found["loss"]


def _callbacks(given: Any) -> list[Callback]:
    listed = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    for one in listed:
        checks.kind("fit", "callbacks", one, Callback, "callbacks.EarlyStopping")
    return listed
