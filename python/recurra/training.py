"""fit, evaluate and predict, for every kind of model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recurra import checks, data, seeds
from recurra.feed import Feed, Goal, InputInfo, Losses, OutputInfo, Outputs, Weights
from recurra.layer import Layer
from recurra.optim import Optimizer
from recurra.progress import Progress
from recurra.structure import Structure


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


class TrainableModel(Layer):
    """A layer that knows how to learn from data."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""

    @property
    @abstractmethod
    def structures(self) -> tuple[Structure, Structure]:
        """How inputs and outputs are written."""

    @abstractmethod
    def input_infos(self) -> list[InputInfo]:
        """What each input takes."""

    @abstractmethod
    def output_infos(self) -> list[OutputInfo]:
        """What each output is."""

    def fit(
        self,
        x: Any,
        y: Any,
        lengths: Any = None,
        *,
        loss: Losses,
        optimizer: Optimizer,
        loss_weights: Weights = None,
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
                or (N, features). The loss says which dtype and shape. For CTC, a list of arrays of any lengths.
            lengths: (N,) valid steps of each row of an array x; padding counts for nothing.
            loss: one of `recurra.losses`.
            loss_weights: numbers, to make the sum of several outputs' mean losses from; None for 1 each.
            optimizer: one of `recurra.optim`; it keeps its state from one fit to the next.
            epochs: how often.
            batch_size: rows between two steps.
            clip_norm: a longer gradient (of the batch's mean loss, over all parameters together) is scaled to this norm.
            validation_data: (x, y) or (x, y, lengths) to evaluate after each epoch.
            shuffle: whether each epoch takes the rows in a new order.
            seed: of the order and of dropout: the same gives the same bits, on any number of threads. None is fresh.
            verbose: 0 silent, 1 a progress bar per epoch, 2 a line per epoch.

        A model with several inputs or outputs takes as many x and lengths, y, loss and loss_weights, written as its inputs
        or outputs were when it was made: in a tuple, or a dict.

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
        checks.kind("fit", "optimizer", optimizer, Optimizer, "optim.Adam")
        rows = Feed("fit", self, x, lengths)
        goal = Goal("fit", self, rows, y, loss, loss_weights)
        if not len(rows):
            raise ValueError("fit: got x without rows, expected at least one; give some data")
        validation = self._validation(validation_data, loss, loss_weights)
        history = History(seeds.resolve("fit", seed))
        steps = -(-len(rows) // batch_size)
        for epoch in range(epochs):
            own = seeds.derive(history.seed, epoch)
            running, norms = goal.mean(), []
            with Progress(steps, f"epoch {epoch + 1}/{epochs}", verbose == 1) as bar:
                for index, chosen in enumerate(data.batches(len(rows), batch_size, own if shuffle else None)):
                    batch, valid = rows.batch(chosen)
                    self.zero_grad()
                    tape = self.record(batch, lengths=valid, input_grad=False, seed=seeds.derive(own, index))
                    values = goal.values(tape.y, chosen, valid)
                    if any(value.count for value in values):  # a batch of empty rows has nothing to say
                        gradient, scale = goal.gradient(values)
                        tape.backward(gradient)
                        norms.append(optimizer.step(self, scale=scale, clip_norm=clip_norm).norm)
                    bar.update(loss=running.add(values))
                logs = {"loss": running.value, "grad_norm": sum(norms) / max(len(norms), 1)}
                if validation is not None:
                    logs["val_loss"] = self._mean_loss(*validation, batch_size)
                bar.finish(**logs)
            history._append(logs)
            if verbose == 2:
                print(
                    f"epoch {epoch + 1}/{epochs}: " + ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
                )
        return history

    def _validation(
        self, validation_data: Sequence[Any] | None, loss: Losses, loss_weights: Weights
    ) -> tuple[Feed, Goal] | None:
        if validation_data is None:
            return None
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            few = isinstance(validation_data, tuple | list)
            got = f"of {len(validation_data)} parts" if few else f"of type {type(validation_data).__name__}"
            raise ValueError(f"fit: got validation_data {got}, expected (x, y) or (x, y, lengths); put them in a tuple")
        x, y, *lengths = validation_data
        operation = "fit: validation_data"
        rows = Feed(operation, self, x, lengths[0] if lengths else None)
        return rows, Goal(operation, self, rows, y, loss, loss_weights)

    def evaluate(
        self,
        x: Any,
        y: Any,
        lengths: Any = None,
        *,
        loss: Losses,
        loss_weights: Weights = None,
        batch_size: int = 32,
        verbose: int = 0,
    ) -> float:
        """The mean loss over all valid elements, exact for ragged rows. Arguments as in `fit`."""
        batch_size = checks.integer("evaluate", "batch_size", batch_size)
        verbose = checks.choice("evaluate", "verbose", verbose, (0, 1))
        rows = Feed("evaluate", self, x, lengths)
        return self._mean_loss(rows, Goal("evaluate", self, rows, y, loss, loss_weights), batch_size, verbose == 1)

    def _mean_loss(self, rows: Feed, goal: Goal, batch_size: int, show: bool = False) -> float:
        running = goal.mean()
        with Progress(-(-len(rows) // batch_size), "evaluate", show) as bar:
            for chosen in data.batches(len(rows), batch_size, None):
                batch, valid = rows.batch(chosen)
                y, _state = self(batch, lengths=valid)
                bar.update(loss=running.add(goal.values(y, chosen, valid, gradient=False)))
        return running.value

    def predict(self, x: Any, lengths: Any = None, *, batch_size: int = 32, verbose: int = 0) -> Any:
        """The outputs for all rows, `batch_size` of them at a time; each row's bits do not depend on the others.

        Args:
            x, lengths: as in `fit`.
            verbose: 1 shows a progress bar.

        Returns:
            An array (N, T, features) or (N, features); for a list of ragged arrays a list with an array for each. Of a model
            with several outputs as many of them.
        """
        batch_size = checks.integer("predict", "batch_size", batch_size)
        verbose = checks.choice("predict", "verbose", verbose, (0, 1))
        if data.is_list(x) and not len(x):
            return []
        rows = Feed("predict", self, x, lengths)
        outputs = Outputs(self, rows.parts)
        batches = []
        with Progress(-(-len(rows) // batch_size), "predict", verbose == 1) as bar:
            for chosen in data.batches(len(rows), batch_size, None) if len(rows) else [slice(0, 0)]:
                batch, valid = rows.batch(chosen)
                y, _state = self(batch, lengths=valid)
                batches.append(outputs.split(y, valid))
                bar.update()
        return outputs.join(batches)
