"""All callbacks of a fit as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from recurra.callbacks.callback import Callback
from recurra.callbacks.saving import BackupAndRestore

if TYPE_CHECKING:
    from recurra.training.loop import Training


class CallbackGroup:
    """Called in the order given, but for the one that saves them all, which comes last."""

    def __init__(self, callbacks: Sequence[Callback], training: Training) -> None:
        self.all = sorted(callbacks, key=lambda one: isinstance(one, BackupAndRestore))
        for one in self.all:
            one.training = training

    @property
    def log_names(self) -> list[str]:
        """What they add to an epoch's logs."""
        return [name for one in self.all for name in one.log_names]

    @property
    def read_step_logs(self) -> bool:
        """Whether one of them looks at the logs of steps."""
        return any(one.reads_step_logs for one in self.all)

    def call(self, event: str, *arguments: Any) -> None:
        """Tell all of them."""
        for one in self.all:
            getattr(one, event)(*arguments)

    def ends_quietly(self, error: FloatingPointError) -> bool:
        """Whether one of them takes care of numbers that are not finite."""
        answers = [one.on_nonfinite(error) for one in self.all]  # all of them hear of it
        return any(answers)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """From the beginning of the training to its end."""
        self.call("on_train_begin")
        yield
        self.call("on_train_end")
