"""The callbacks of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recurra.callbacks import keras
from recurra.callbacks.callback import Callback
from recurra.callbacks.saving import BackupAndRestore
from recurra.common import checks, errors

if TYPE_CHECKING:
    from recurra.training.loop import Training


class CallbackGroup:
    """Calls callbacks in the order given, except BackupAndRestore, which saves the state of all and comes last."""

    def __init__(self, callbacks: Sequence[Callback], training: Training) -> None:
        self.all = sorted(callbacks, key=lambda one: isinstance(one, BackupAndRestore))
        for one in self.all:
            one.training = training
        # For each event the methods to call, and whether they want logs where there are none.
        self._hooks = {
            event: [
                (one, name, keras.takes_logs("fit", one, name)) for one in self.all for name in keras.hooks(one, event)
            ]
            for event in keras.ARGUMENTS
        }

    def begin(self) -> None:
        """Before the first event."""
        for one in self.all:
            keras.begin(one)
        self.call("on_train_begin")

    @property
    def log_names(self) -> list[str]:
        """Names of the numbers that callbacks add to an epoch's logs."""
        return [name for one in self.all for name in one.log_names]

    def call(self, event: str, *arguments: Any) -> None:
        """Call the method `event` of all callbacks."""
        for one, name, wants_logs in self._hooks[event]:
            getattr(one, name)(*arguments, *[{}] * wants_logs)

    def ends_quietly(self, error: FloatingPointError) -> bool:
        """Whether a callback handles the NaN or infinity, so that training ends without an error."""
        answers = [one.on_nonfinite(error) for one in self.all]  # calls all of them
        return any(answers)


def listed(operation: str, callbacks: Any) -> list[Callback]:
    """The `callbacks` argument of `fit` as a list: one, several or None."""
    found = [] if callbacks is None else list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
    for one in found:
        checks.kind(operation, "callbacks", one, Callback, "recurra.callbacks")
        _warn_of_strangers(operation, one)
        for event in keras.ARGUMENTS:
            for name in keras.hooks(one, event):
                keras.takes_logs(operation, one, name)
    return found


def _warn_of_strangers(operation: str, callback: Callback) -> None:
    """Warn of methods with the name of a hook that nothing calls, such as hooks that only Keras has."""
    hooks = [name for name in dir(Callback) if name.startswith("on_")]
    for name in dir(callback):
        if (
            name.startswith("on_")
            and name not in (*hooks, *keras.ALIASES)
            and callable(getattr(type(callback), name, None))
        ):
            import difflib  # late, to keep `import recurra` cheap

            close = difflib.get_close_matches(name, hooks, 1, 0.8)  # close enough for a misspelling only
            hint = f"write {close[0]}" if close else "rename it if something else calls it"
            hint = keras.ELSEWHERE.get(name, hint)
            errors.warn(
                f"{operation}: got {type(callback).__name__}.{name}, which is never called, expected some of "
                f"{', '.join(hooks)}; {hint}"
            )
