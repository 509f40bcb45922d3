"""Training with early stopping and weighted rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra import data, seeds
from recurra.losses import Loss
from recurra.optim import Optimizer
from recurra.progress import Progress
from recurra.sequential import Sequential
from recurra.sklearn import rows
from recurra.typing import Array


@dataclass(frozen=True)
class Data:
    """Rows with targets, and a weight for each or for none."""

    x: Any
    y: Any
    weight: Array | None

    def take(self, chosen: Array) -> Data:
        """Some of the rows."""
        weight = None if self.weight is None else self.weight[chosen]
        return Data(rows.take(self.x, chosen), rows.take(self.y, chosen), weight)


@dataclass(frozen=True)
class Plan:
    """How to train."""

    epochs: int
    batch_size: int
    clip_norm: float | None
    patience: int
    tol: float
    verbose: int
    seed: int


def train(
    model: Sequential, train_data: Data, validation: Data | None, loss: Loss, optimizer: Optimizer, plan: Plan
) -> dict[str, list[float]]:
    """Epoch by epoch, until the watched loss has not improved by `tol` for `patience` epochs.

    With validation data their loss is watched, and the best weights are put back. Returns "loss" and, with validation
    data, "val_loss" of each epoch.
    """
    history: dict[str, list[float]] = {}
    best, since, kept = np.inf, 0, None
    with Progress(plan.epochs, "fit", plan.verbose == 1) as bar:
        for epoch in range(plan.epochs):
            logs = {"loss": _epoch(model, train_data, loss, optimizer, plan, seeds.derive(plan.seed, epoch))}
            if validation is not None:
                logs["val_loss"] = _mean(model, validation, loss, plan.batch_size)
            for name, value in logs.items():
                history.setdefault(name, []).append(value)
            bar.update(**logs)
            if plan.verbose == 2:
                print(f"epoch {epoch + 1}: " + ", ".join(f"{name} {value:.4g}" for name, value in logs.items()))
            watched = logs.get("val_loss", logs["loss"])
            since = 0 if watched < best - plan.tol else since + 1
            if watched < best:
                best, kept = watched, None if validation is None else model.state_dict()
            if since >= plan.patience:
                break
    if kept is not None:
        model.load_state_dict(kept)
    return history


def _epoch(model: Sequential, given: Data, loss: Loss, optimizer: Optimizer, plan: Plan, seed: int) -> float:
    """One epoch of training; its mean loss."""
    if given.weight is not None:
        return _weighted_epoch(model, given, loss, optimizer, plan, seed)
    options: dict[str, Any] = {"batch_size": plan.batch_size, "clip_norm": plan.clip_norm, "seed": seed, "verbose": 0}
    return model.fit(given.x, given.y, loss=loss, optimizer=optimizer, **options).history["loss"][0]


def _weighted_epoch(model: Sequential, given: Data, loss: Loss, optimizer: Optimizer, plan: Plan, seed: int) -> float:
    assert given.weight is not None
    x = data.inputs("fit", model.input_infos()[0], given.x, None)
    y = data.targets("fit", model.output_infos()[0], x, given.y, loss)
    total = count = 0.0
    for index, chosen in enumerate(data.batches(len(x), plan.batch_size, seed)):
        (batch, valid), weight = x.batch(chosen), given.weight[chosen]
        model.zero_grad()
        tape = model.record(batch, lengths=valid, input_grad=False, seed=seeds.derive(seed, index))
        targets, _ = y.batch(chosen)
        sums, counts = _weighted(tape.y, targets, weight, loss)
        if counts:
            gradient = loss(tape.y, targets).gradient
            tape.backward((gradient * weight[:, None]).astype(tape.y.dtype))
            optimizer.step(model, scale=1.0 / counts, clip_norm=plan.clip_norm)
        total, count = total + sums, count + counts
    return total / count


def _weighted(predictions: Array, targets: Array, weight: Array, loss: Loss) -> tuple[float, float]:
    """The weighted sum of the rows' losses, and of their counts."""
    values = [
        loss(predictions[row : row + 1], targets[row : row + 1], gradient=False) for row in range(len(predictions))
    ]
    sums, counts = (np.array([getattr(value, part) for value in values]) for part in ("sum", "count"))
    return float(weight @ sums), float(weight @ counts)


def _mean(model: Sequential, given: Data, loss: Loss, batch_size: int) -> float:
    """The mean loss of rows held out."""
    if given.weight is None:
        return float(model.evaluate(given.x, given.y, loss=loss, batch_size=batch_size))
    predictions = np.stack(list(model.predict(given.x, batch_size=batch_size)))
    sums, counts = _weighted(predictions, np.asarray(given.y), given.weight, loss)
    return sums / counts if counts else 0.0
