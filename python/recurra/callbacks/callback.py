"""What every callback is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from recurra.training.loop import Training

#: The moments of a fit.
EVENTS = (
    "on_train_begin",
    "on_train_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)


class Callback:
    """Write a class that overrides what it needs, and give an object of it to `fit(callbacks=[...])`.

    `self.training` is the fit at work: see `recurra.training.loop.Training`; `self.training.stop_training = True` ends it. A
    "batch" is what lies between two steps of the optimiser; `logs` are the numbers of the epoch so far by name. What a
    callback puts into the logs of `on_epoch_end` goes into the history; name it in `log_names`, so that others can watch it.
    """

    training: Training
    #: Names of the numbers that the callback adds to an epoch's logs.
    log_names: ClassVar[tuple[str, ...]] = ()

    def has_ended_run(self) -> bool:
        """Whether this callback has ended the run for good, so that the same fit called again has nothing to do. One that
        stops a single call, such as a time limit, leaves it False."""
        return False

    def on_train_begin(self) -> None:
        """Before the first epoch; a run that goes on calls it, too."""

    def on_train_end(self) -> None:
        """After the last epoch, however the training ended, exceptions aside."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch, numbered from 0."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """After an epoch and its validation."""

    def on_train_batch_begin(self, batch: int) -> None:
        """Before a step of the optimiser, numbered from 0 in each epoch."""

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """After it. Metrics are worked out when the logs are first looked at, which is to be before the next step."""

    def on_nonfinite(self, error: FloatingPointError) -> bool:
        """When a loss or a gradient is not finite, before any parameter is changed by it: True ends the training quietly,
        else fit raises the error."""
        return False

    def config(self) -> dict[str, Any]:
        """Options that are to be the same in a run that goes on, which warns where they are not; plain data."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold for a run that goes on: arrays and plain data by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()`; called after `on_train_begin`. A callback that ended the training for good sets
        `self.training.stop_training` here."""

    def __getstate__(self) -> dict[str, Any]:
        """Copies are of the callback alone, without the fit that it was last at work in, its model and its data."""
        return {name: value for name, value in vars(self).items() if name != "training"}


class LambdaCallback(Callback):
    """Functions as a callback: `LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))`.

    Args:
        on_train_begin, on_train_end: functions of nothing; None for none, as for the others.
        on_epoch_begin: a function of the epoch.
        on_epoch_end: of the epoch and its logs.
        on_train_batch_begin: of the batch.
        on_train_batch_end: of the batch and the logs so far.
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
        for name in EVENTS:
            function = given[name]
            if function is None:
                continue
            if not callable(function):
                raise TypeError(
                    f"LambdaCallback: got {name}={function!r}, expected a function; give one, or leave it out"
                )
            setattr(self, name, function)
