"""Callbacks that end training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from recurra.callbacks.callback import Callback
from recurra.callbacks.monitor import Monitor
from recurra.common import checks, errors, log
from recurra.common.typing import Array


class EarlyStopping(Callback):
    """Ends training when a number has stopped improving, and restores the model of the best epoch.

    Args:
        monitor: the number's name in the history.
        min_delta: the least change that counts as an improvement.
        patience: epochs without improvement after which training ends; it never ends after the first epoch.
        mode: "min" or "max", whichever is better; "auto": "min" for a loss, the metric's own mode for a metric.
        baseline: a value that an epoch must also beat to count as an improvement for patience. None for no such value.
        restore_best_weights: whether the model ends with the parameters and buffers of its best epoch, even if training
            ran to its last epoch. (Keras' default is False.)
        start_from_epoch: earlier epochs are ignored.
        verbose: 1 prints when it stops.

    Attributes: best, best_epoch, the best value so far and its epoch; stopped_epoch, None if training ran to its last
    epoch.

    Example:
        >>> callback = rc.callbacks.EarlyStopping("loss", patience=3)
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(
        ...     x, x, loss="mse", optimizer="adam", callbacks=callback, verbose=0
        ... )
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = True,
        start_from_epoch: int = 0,
        verbose: int = 0,
    ) -> None:
        name = type(self).__name__
        self._monitor = Monitor(name, monitor, mode, min_delta)
        self.patience = checks.integer(name, "patience", patience, 0)
        self.baseline = None if baseline is None else checks.number(name, "baseline", baseline, -math.inf)
        self.restore_best_weights = checks.flag(name, "restore_best_weights", restore_best_weights)
        self.start_from_epoch = checks.integer(name, "start_from_epoch", start_from_epoch, 0)
        self.verbose = checks.choice(name, "verbose", verbose, (0, 1))
        self._begin()

    def _begin(self) -> None:
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._waited = 0
        self._weights: dict[str, Array] = {}

    @property
    def best(self) -> float:
        """The best value so far."""
        return self._monitor.sign * self._monitor.best

    def has_ended_run(self) -> bool:
        """Whether it has stopped training."""
        return self.stopped_epoch is not None

    def on_train_begin(self) -> None:
        """Forgets an earlier run."""
        self._begin()
        self._monitor.begin(self.training)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Checks the number, unless the epoch was cut short."""
        if epoch < self.start_from_epoch or not self.training.epoch_is_whole:
            return
        self._waited += 1
        if self._monitor.improved(logs):
            self.best_epoch = epoch
            if self.restore_best_weights:
                self._weights = self.training.model.state_dict()
            if self.baseline is None or self._monitor.better(self._monitor.value(logs), self.baseline):
                self._waited = 0
        elif self._waited >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.training.stop_training = True

    def on_train_end(self) -> None:
        """Restores the best parameters."""
        if self._weights:
            self.training.model.load_state_dict(self._weights)
        if self.verbose and self.stopped_epoch is not None:
            best = "none was good enough" if self.best_epoch is None else f"epoch {self.best_epoch + 1} was best"
            log.say(
                f"EarlyStopping: stopped after epoch {self.stopped_epoch + 1}: {best}, {self._monitor.name} "
                f"{self.best:.4g}"
            )

    def config(self) -> dict[str, Any]:
        """The options that determine when it stops, and what it restores."""
        names = ("patience", "baseline", "restore_best_weights", "start_from_epoch")
        return {**self._monitor.config(), **{name: getattr(self, name) for name in names}}

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, its epoch and weights, and the epochs waited."""
        return {
            "best": self._monitor.best,
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "waited": self._waited,
            "weights": self._weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state."""
        name, weights, model = type(self).__name__, dict(state["weights"]), self.training.model
        own = {name: (array.shape, array.dtype) for name, array in {**model.params, **model.buffers}.items()}
        if weights and {name: (array.shape, array.dtype) for name, array in weights.items()} != own:
            raise ValueError(
                f"{name}: got weights that do not fit the model, expected those of its best epoch; delete the file"
            )
        self._weights = weights
        self._monitor.best = float(state["best"])
        self.best_epoch, self.stopped_epoch = (
            None if one is None else checks.integer(name, "an epoch", one, 0)
            for one in (state["best_epoch"], state["stopped_epoch"])
        )
        self._waited = checks.integer(name, "waited", state["waited"], 0)
        if self.has_ended_run():
            self.training.stop_training = True


class TerminateOnNaN(Callback):
    """Ends training with a warning instead of an exception when a loss or a gradient is NaN or infinite.

    It changes no parameter: the model is as the last good step left it. Without this callback, fit raises
    `recurra.NonFiniteError` with the same message.

    Example:
        >>> callback = rc.callbacks.TerminateOnNaN()
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(
        ...     x, x, loss="mse", optimizer="adam", callbacks=callback, verbose=0
        ... )
    """

    def on_nonfinite(self, error: FloatingPointError) -> bool:
        """Warns, and ends training."""
        errors.warn(f"TerminateOnNaN: {error}")
        return True
