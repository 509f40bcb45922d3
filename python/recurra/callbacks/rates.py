"""Callbacks that change the learning rate between epochs. For schedules per step, see `recurra.optim.schedules`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from recurra.callbacks.callback import Callback
from recurra.callbacks.monitor import Monitor
from recurra.common import checks, log


def _check_free(callback: Callback) -> None:
    """Refuse, before training starts, an optimiser whose rate follows a schedule and cannot be set."""
    schedule = callback.training.optimizer.schedule
    if schedule is not None:
        raise ValueError(
            f"{type(callback).__name__}: got an optimiser whose rate is {schedule!r}, expected a number, which can be "
            f"changed; make it with lr=1e-3, say, or leave {type(callback).__name__} out"
        )


class ReduceLROnPlateau(Callback):
    """Lowers the learning rate when a number has stopped improving.

    Args:
        monitor: the number's name in the history.
        factor: the rate is multiplied by this, 0 to 1.
        patience: epochs without improvement after which the rate is lowered.
        mode: "min" or "max", whichever is better; "auto": "min" for a loss, the metric's own mode for a metric.
        min_delta: the least change that counts as an improvement.
        cooldown: epochs after a reduction that do not count towards patience (as in PyTorch; Keras counts one less).
        min_lr: lower bound of the rate.
        verbose: 1 prints every change.

    Example:
        >>> callback = rc.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=2)
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
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        verbose: int = 0,
    ) -> None:
        name = type(self).__name__
        self._monitor = Monitor(name, monitor, mode, min_delta)
        self.factor = checks.number(name, "factor", factor, 0.0, 1.0)
        self.patience = checks.integer(name, "patience", patience, 0)
        self.cooldown = checks.integer(name, "cooldown", cooldown, 0)
        self.min_lr = checks.number(name, "min_lr", min_lr)
        self.verbose = checks.choice(name, "verbose", verbose, (0, 1))
        self._waited = self._resting = 0

    def on_train_begin(self) -> None:
        """Forgets an earlier run."""
        _check_free(self)
        self._monitor.begin(self.training)
        self._waited = self._resting = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Checks the number, unless the epoch was cut short."""
        if not self.training.epoch_is_whole:
            return
        improved, resting = self._monitor.improved(logs), self._resting > 0
        if resting:
            self._resting -= 1
        if improved or resting:
            self._waited = 0
        else:
            self._waited += 1
            optimizer = self.training.optimizer
            if self._waited >= self.patience and optimizer.lr > self.min_lr:
                optimizer.lr = max(optimizer.lr * self.factor, self.min_lr)
                self._waited, self._resting = 0, self.cooldown
                if self.verbose:
                    log.say(f"ReduceLROnPlateau: learning rate {optimizer.lr:.4g} after epoch {epoch + 1}")

    def config(self) -> dict[str, Any]:
        """The options that determine when and how the rate changes."""
        names = ("factor", "patience", "cooldown", "min_lr")
        return {**self._monitor.config(), **{name: getattr(self, name) for name in names}}

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and the epochs waited."""
        return {"best": self._monitor.best, "waited": self._waited, "resting": self._resting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state."""
        name = type(self).__name__
        waited, resting = (checks.integer(name, key, state[key], 0) for key in ("waited", "resting"))
        self._monitor.best, self._waited, self._resting = float(state["best"]), waited, resting


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch.

    Args:
        schedule: a function of the epoch, from 0, and the current rate, that returns the new rate.
        verbose: 1 prints every rate.

    Example:
        >>> callback = rc.callbacks.LearningRateScheduler(lambda epoch, lr: lr * 0.9)
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(
        ...     x, x, loss="mse", optimizer="adam", callbacks=callback, verbose=0
        ... )
    """

    def __init__(self, schedule: Callable[[int, float], float], *, verbose: int = 0) -> None:
        name = type(self).__name__
        if not callable(schedule):
            raise TypeError(
                f"{name}: got schedule={schedule!r}, expected a function of the epoch and the rate; give one"
            )
        try:
            inspect.signature(schedule).bind(0, 1.0)
        except TypeError:
            raise TypeError(
                f"{name}: got a function that cannot be called with an epoch and a rate, expected one of both; write "
                "lambda epoch, lr: ..."
            ) from None
        except ValueError:  # a function without a signature
            pass
        self.schedule = schedule
        self.verbose = checks.choice(name, "verbose", verbose, (0, 1))

    def on_train_begin(self) -> None:
        """Refuses an optimiser that has a schedule."""
        _check_free(self)

    def on_epoch_begin(self, epoch: int) -> None:
        """Sets the rate."""
        optimizer = self.training.optimizer
        optimizer.lr = checks.number(
            type(self).__name__, f"schedule({epoch}, {optimizer.lr})", self.schedule(epoch, optimizer.lr)
        )
        if self.verbose:
            log.say(f"LearningRateScheduler: learning rate {optimizer.lr:.4g} in epoch {epoch + 1}")
