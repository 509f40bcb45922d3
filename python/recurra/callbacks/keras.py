"""What callbacks written for Keras expect: its names of hooks, `self.model`, `self.params`, and logs in every hook."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from recurra.callbacks.callback import Callback
    from recurra.training.loop import Training

T = TypeVar("T")

#: Keras' older names of hooks, and what they are.
ALIASES = {"on_batch_begin": "on_train_batch_begin", "on_batch_end": "on_train_batch_end"}
#: Hooks of Keras without a moment here, and what to do.
ELSEWHERE = {
    "on_test_begin": "look at the val_ numbers in the logs of on_epoch_end",
    "on_test_end": "look at the val_ numbers in the logs of on_epoch_end",
    "on_test_batch_begin": "look at the val_ numbers in the logs of on_epoch_end",
    "on_test_batch_end": "look at the val_ numbers in the logs of on_epoch_end",
    "on_predict_begin": "put it around model.predict",
    "on_predict_end": "put it around model.predict",
    "on_predict_batch_begin": "put it around model.predict",
    "on_predict_batch_end": "put it around model.predict",
}


class OfTraining(Generic[T]):
    """An attribute that a callback has by its fit, unless it has one of its own of that name."""

    def __init__(self, find: Callable[[Training], T]) -> None:
        self._find = find

    def __get__(self, callback: Callback | None, _owner: type) -> T:
        if callback is None:
            return self  # type: ignore[return-value] # for documentation
        try:
            return self._find(callback.training)
        except AttributeError:
            raise AttributeError(
                f"{type(callback).__name__}: got a callback outside a fit, expected one that fit has called; look at "
                f"this in a hook, such as on_train_begin"
            ) from None


def begin(callback: Callback) -> None:
    """Call what Keras calls before a fit, if the callback has it."""
    for name, given in (("set_model", "model"), ("set_params", "params")):
        method = getattr(callback, name, None)
        if callable(method):
            method(getattr(callback, given))


#: The hooks, and what each is called with.
ARGUMENTS = {
    "on_train_begin": (),
    "on_train_end": (),
    "on_epoch_begin": ("epoch",),
    "on_epoch_end": ("epoch", "logs"),
    "on_train_batch_begin": ("batch",),
    "on_train_batch_end": ("batch", "logs"),
}


def hooks(callback: Callback, event: str) -> list[str]:
    """The names under which a callback hears of an event."""
    older = [name for name, meant in ALIASES.items() if meant == event and callable(getattr(callback, name, None))]
    return [event, *older]


def takes_logs(operation: str, callback: Callback, name: str) -> bool:
    """Whether a hook wants logs where there are none: it gets an empty dict.

    Raises:
        TypeError: it takes other arguments.
    """
    given = ARGUMENTS[ALIASES.get(name, name)]
    try:
        signature = inspect.signature(getattr(callback, name))
    except (TypeError, ValueError):  # of a function that has none
        return False
    for wants_logs in (False, True):
        with suppress(TypeError):
            signature.bind(*given, *[{}] * wants_logs)
            return wants_logs
    raise TypeError(
        f"{operation}: got {type(callback).__name__}.{name}{signature}, expected "
        f"{name}({', '.join(('self', *given))}); change its arguments"
    )
