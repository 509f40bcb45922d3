"""All callbacks of a fit as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recurra import checks
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

    def call(self, event: str, *arguments: Any) -> None:
        """Tell all of them."""
        for one in self.all:
            getattr(one, event)(*arguments)

    def ends_quietly(self, error: FloatingPointError) -> bool:
        """Whether one of them takes care of numbers that are not finite."""
        answers = [one.on_nonfinite(error) for one in self.all]  # all of them hear of it
        return any(answers)


def listed(operation: str, callbacks: Any) -> list[Callback]:
    """One or several, as people give them to `fit`; None for none."""
    found = [] if callbacks is None else list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
    for one in found:
        checks.kind(operation, "callbacks", one, Callback, "recurra.callbacks")
    return found
