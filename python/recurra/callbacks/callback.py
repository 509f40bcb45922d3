"""The base class of callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from recurra.callbacks.keras import ARGUMENTS, OfTraining

if TYPE_CHECKING:
    from recurra.training.loop import Training
    from recurra.training.model import TrainableModel


class Callback:
    """Base class of callbacks: override methods, and pass an instance to `fit(callbacks=[...])`.

    `self.training` is the running fit, a `recurra.training.loop.Training`; `self.training.stop_training = True` ends
    it. A "batch" is one step of the optimiser; `logs` are the epoch's numbers so far, by name. Numbers that a callback
    adds to the logs of `on_epoch_end` go into the history; list their names in `log_names`, so that other callbacks can
    monitor them.

    Keras' callbacks work: `self.model`, whose `stop_training` may be set instead; `self.params` ("epochs", "steps",
    "verbose"); `on_batch_begin` and `on_batch_end`; `set_model` and `set_params`; `logs=None` in every method.

    Example:
        >>> class Patience(rc.callbacks.Callback):
        ...     def on_epoch_end(self, epoch, logs):
        ...         if logs["loss"] < 1.0:
        ...             self.training.stop_training = True
    """

    training: Training
    if TYPE_CHECKING:
        model: TrainableModel
        params: dict[str, int | None]
    else:
        model = OfTraining(lambda training: training.model)
        params = OfTraining(lambda training: training.params)
    #: Names of the numbers that this callback adds to the logs of an epoch.
    log_names: ClassVar[tuple[str, ...]] = ()

    def has_ended_run(self) -> bool:
        """Whether this callback has ended the run for good, so that calling the same fit again has nothing to do. A
        callback that only stops the current call, such as a time limit, returns False."""
        return False

    def on_train_begin(self) -> None:
        """Before the first epoch, also of a resumed run."""

    def on_train_end(self) -> None:
        """After the last epoch, unless training ended with an exception."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch, numbered from 0."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """After an epoch and its validation."""

    def on_train_batch_begin(self, batch: int) -> None:
        """Before a step of the optimiser, numbered from 0 in each epoch."""

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """After that step. Metrics are computed when the logs are first read, which must be before the next step."""

    def on_nonfinite(self, error: FloatingPointError) -> bool:
        """When a loss or a gradient is not finite, before it changes any parameter. True ends training without an
        error; otherwise fit raises it."""
        return False

    def config(self) -> dict[str, Any]:
        """Options, as plain data. A resumed run warns if they differ."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The state to save in a checkpoint: arrays and plain data by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state from `state_dict()`; called after `on_train_begin`. A callback that had ended the run for
        good sets `self.training.stop_training` here."""

    def __getstate__(self) -> dict[str, Any]:
        """A copy or pickle leaves out `training`, and so the model and the data of the last fit."""
        return {name: value for name, value in vars(self).items() if name != "training"}


class LambdaCallback(Callback):
    """A callback made of functions: `LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))`.

    Args:
        on_train_begin, on_train_end: functions without arguments; None for none, as for the others.
        on_epoch_begin: a function of the epoch.
        on_epoch_end: a function of the epoch and its logs.
        on_train_batch_begin: a function of the batch.
        on_train_batch_end: a function of the batch and the logs so far.

    Example:
        >>> callback = rc.callbacks.LambdaCallback(
        ...     on_epoch_end=lambda epoch, logs: print(epoch)
        ... )
        >>> model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1))
        >>> x = np.zeros((8, 5, 1), np.float32)
        >>> history = model.fit(
        ...     x, x, loss="mse", optimizer="adam", callbacks=callback, verbose=0
        ... )
        0
    """

    def __init__(
        self,
        *,
        on_train_begin: Callable[[], object] | None = None,
        on_train_end: Callable[[], object] | None = None,
        on_epoch_begin: Callable[[int], object] | None = None,
        on_epoch_end: Callable[[int, dict[str, float]], object] | None = None,
        on_train_batch_begin: Callable[[int], object] | None = None,
        on_train_batch_end: Callable[[int, Mapping[str, float]], object] | None = None,
    ) -> None:
        given = locals()
        for name in ARGUMENTS:
            function = given[name]
            if function is None:
                continue
            if not callable(function):
                raise TypeError(
                    f"LambdaCallback: got {name}={function!r}, expected a function; give one, or leave it out"
                )
            setattr(self, name, function)
