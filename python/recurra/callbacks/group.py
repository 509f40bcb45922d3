"""All callbacks of a fit as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recurra.callbacks.callback import Callback
from recurra.callbacks.saving import BackupAndRestore
from recurra.common import checks, errors

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
        _warn_of_strangers(operation, one)
    return found


def _warn_of_strangers(operation: str, callback: Callback) -> None:
    """Methods named as hooks that nothing calls, such as those of Keras which recurra does not have."""
    hooks = [name for name in dir(Callback) if name.startswith("on_")]
    for name in dir(callback):
        if name.startswith("on_") and name not in hooks and callable(getattr(type(callback), name, None)):
            import difflib  # here: an import of recurra need not wait for it

            close = difflib.get_close_matches(name, hooks, 1, 0.8)  # a misspelling, not another moment
            hint = f"write {close[0]}" if close else "rename it if it is called by something else"
            errors.warn(
                f"{operation}: got {type(callback).__name__}.{name}, which is never called, expected some of "
                f"{', '.join(hooks)}; {hint}"
            )
