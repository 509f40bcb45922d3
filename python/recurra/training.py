"""fit, evaluate and predict, for every kind of model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recurra import checks, data, seeds
from recurra.layer import Layer
from recurra.losses import Loss, LossValue
from recurra.optim import Optimizer
from recurra.progress import Progress
from recurra.typing import Lengths, Rows


@dataclass
class History:
    """What `fit` returns.

    Attributes: history, a list with a number per epoch for each of "loss" (mean over the epoch, while the parameters
    moved), "grad_norm" (mean norm of a batch's gradient, before clipping) and, with validation data, "val_loss"; epoch,
    the epochs' numbers; seed, which repeats the run.
    """

    seed: int
    history: dict[str, list[float]] = field(default_factory=dict)
    epoch: list[int] = field(default_factory=list)

    def _append(self, logs: dict[str, float]) -> None:
        self.epoch.append(len(self.epoch))
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


@dataclass
class _Mean:
    """The mean over all elements of several batches."""

    sum: float = 0.0
    count: int = 0

    def add(self, batch: LossValue) -> float:
        """The mean so far."""
        self.sum += batch.sum
        self.count += batch.count
        return self.value

    @property
    def value(self) -> float:
        """0 if there was nothing to count."""
        return self.sum / self.count if self.count else 0.0


class TrainableModel(Layer):
    """A layer that knows how to learn from data."""

    @property
    @abstractmethod
    def needs_sequences(self) -> bool:
        """Whether the input must have a time axis."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""

    def fit(
        self,
        x: Rows,
        y: Rows,
        lengths: Lengths = None,
        *,
        loss: Loss,
        optimizer: Optimizer,
        epochs: int = 1,
        batch_size: int = 32,
        clip_norm: float | None = None,
        validation_data: Sequence[Any] | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        verbose: int = 1,
    ) -> History:
        """Train on all rows, `epochs` times.

        Args:
            x: (N, T, features) or tokens (N, T), converted to the model's dtype; or a list of N ragged arrays (T_n,
                features) or (T_n,), padded batch by batch.
            y: targets. With an output at every step (N, T) or (N, T, features), or a list of arrays if x is one; else (N,)
                or (N, features). The loss says which dtype and shape.
            lengths: (N,) valid steps of each row of an array x; padding counts for nothing.
            loss: one of `recurra.losses`.
            optimizer: one of `recurra.optim`; it keeps its state from one fit to the next.
            epochs, batch_size: how often, and how many rows between two steps.
            clip_norm: a longer gradient (of the batch's mean loss, over all parameters together) is scaled to this norm.
            validation_data: (x, y) or (x, y, lengths) to evaluate after each epoch.
            shuffle: whether each epoch takes the rows in a new order.
            seed: of the order and of dropout: the same gives the same bits, on any number of threads. None is fresh.
            verbose: 0 silent, 1 a progress bar per epoch, 2 a line per epoch.

        Returns:
            The history. On Ctrl-C, KeyboardInterrupt leaves the model and the optimiser as some whole step left them.

        Raises:
            ValueError, TypeError: data that do not fit, before anything is trained.
        """
        epochs = checks.integer("fit", "epochs", epochs, 0)
        batch_size = checks.integer("fit", "batch_size", batch_size)
        shuffle = checks.flag("fit", "shuffle", shuffle)
        verbose = checks.choice("fit", "verbose", verbose, (0, 1, 2))
        if clip_norm is not None:
            clip_norm = checks.number("fit", "clip_norm", clip_norm)
        _check_kind("fit", "loss", loss, Loss, "losses.CrossEntropy")
        _check_kind("fit", "optimizer", optimizer, Optimizer, "optim.Adam")
        rows = data.inputs("fit", self, x, lengths)
        targets = data.targets("fit", self, rows, y, loss)
        if not len(rows):
            raise ValueError("fit: got x without rows, expected at least one; give some data")
        validation = self._validation(validation_data, loss)
        history = History(seeds.resolve("fit", seed))
        sequences = self.return_sequences and rows.has_time
        steps = -(-len(rows) // batch_size)
        for epoch in range(epochs):
            own = seeds.derive(history.seed, epoch)
            running, norms = _Mean(), []
            with Progress(steps, f"epoch {epoch + 1}/{epochs}", verbose == 1) as bar:
                for index, chosen in enumerate(data.batches(len(rows), batch_size, own if shuffle else None)):
                    batch, valid = rows.batch(chosen)
                    wanted, _same = targets.batch(chosen)
                    self.zero_grad()
                    tape = self.record(batch, lengths=valid, input_grad=False, seed=seeds.derive(own, index))
                    value = loss(tape.y, wanted, self.output_lengths(valid) if sequences else None)
                    if value.count:  # a batch of empty rows has nothing to say
                        tape.backward(value.gradient)
                        norms.append(optimizer.step(self, scale=1.0 / value.count, clip_norm=clip_norm))
                    bar.update(loss=running.add(value))
                logs = {"loss": running.value, "grad_norm": sum(norms) / max(len(norms), 1)}
                if validation is not None:
                    logs["val_loss"] = self._mean_loss(*validation, loss, batch_size)
                bar.finish(**logs)
            history._append(logs)
            if verbose == 2:
                print(
                    f"epoch {epoch + 1}/{epochs}: " + ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
                )
        return history

    def _validation(
        self, validation_data: Sequence[Any] | None, loss: Loss
    ) -> tuple[data.ArrayRows | data.RaggedRows, data.ArrayRows | data.RaggedRows] | None:
        if validation_data is None:
            return None
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            few = isinstance(validation_data, tuple | list)
            got = f"of {len(validation_data)} parts" if few else f"of type {type(validation_data).__name__}"
            raise ValueError(f"fit: got validation_data {got}, expected (x, y) or (x, y, lengths); put them in a tuple")
        x, y, *lengths = validation_data
        operation = "fit: validation_data"
        rows = data.inputs(operation, self, x, lengths[0] if lengths else None)
        return rows, data.targets(operation, self, rows, y, loss)

    def evaluate(
        self, x: Rows, y: Rows, lengths: Lengths = None, *, loss: Loss, batch_size: int = 32, verbose: int = 0
    ) -> float:
        """The mean loss over all valid elements, exact for ragged rows. Arguments as in `fit`."""
        batch_size = checks.integer("evaluate", "batch_size", batch_size)
        verbose = checks.choice("evaluate", "verbose", verbose, (0, 1))
        _check_kind("evaluate", "loss", loss, Loss, "losses.CrossEntropy")
        rows = data.inputs("evaluate", self, x, lengths)
        return self._mean_loss(rows, data.targets("evaluate", self, rows, y, loss), loss, batch_size, verbose == 1)

    def _mean_loss(
        self,
        rows: data.ArrayRows | data.RaggedRows,
        targets: data.ArrayRows | data.RaggedRows,
        loss: Loss,
        batch_size: int,
        show: bool = False,
    ) -> float:
        sequences = self.return_sequences and rows.has_time
        running = _Mean()
        with Progress(-(-len(rows) // batch_size), "evaluate", show) as bar:
            for chosen in data.batches(len(rows), batch_size, None):
                batch, valid = rows.batch(chosen)
                wanted, _same = targets.batch(chosen)
                y, _state = self(batch, lengths=valid)
                value = loss(y, wanted, self.output_lengths(valid) if sequences else None, gradient=False)
                bar.update(loss=running.add(value))
        return running.value

    def predict(self, x: Rows, lengths: Lengths = None, *, batch_size: int = 32, verbose: int = 0) -> Any:
        """The outputs for all rows, `batch_size` of them at a time; each row's bits do not depend on the others.

        Args:
            x, lengths: as in `fit`.
            verbose: 1 shows a progress bar.

        Returns:
            An array (N, T, features) or (N, features); for a list of ragged arrays a list with an array for each.
        """
        batch_size = checks.integer("predict", "batch_size", batch_size)
        verbose = checks.choice("predict", "verbose", verbose, (0, 1))
        if data.is_list(x) and not len(x):  # type: ignore[arg-type]
            return []
        rows = data.inputs("predict", self, x, lengths)
        sequences = self.return_sequences and rows.has_time
        outputs = []
        with Progress(-(-len(rows) // batch_size), "predict", verbose == 1) as bar:
            for chosen in data.batches(len(rows), batch_size, None) if len(rows) else [slice(0, 0)]:
                batch, valid = rows.batch(chosen)
                y, _state = self(batch, lengths=valid)
                outputs.append(rows.split(y, self.output_lengths(valid), sequences))
                bar.update()
        return rows.join(outputs)


def _check_kind(operation: str, name: str, value: Any, kind: type, example: str) -> None:
    if not isinstance(value, kind):
        got = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
        raise TypeError(
            f"{operation}: got {name}={got}, expected an object of a class as {example}; write {name}=recurra.{example}()"
        )
