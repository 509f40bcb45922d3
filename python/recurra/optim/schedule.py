"""What every schedule is, and how numbers and functions become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

from recurra.common import checks
from recurra.common.structure import plain


class Schedule(ABC):
    """`schedule(step)` is the rate of the step before which so many were taken.

    A class of your own defines `rate` and keeps the constructor's arguments in attributes of their names. Two schedules
    are equal if their classes and attributes are.
    """

    @abstractmethod
    def rate(self, step: int) -> float:
        """The rate of step `step`, 0 for the first."""

    def __call__(self, step: int) -> float:
        """The same, checked.

        Raises:
            ValueError: step is negative, or the rate is negative or not finite.
        """
        name = type(self).__name__
        step = checks.integer(name, "step", step, 0, 2**63 - 1)
        return checks.number(name, f"rate({step})", self.rate(step))

    def config(self) -> dict[str, Any]:
        """Class and arguments as plain data, fit for JSON."""
        return {"class": type(self).__name__, **{name: plain(value) for name, value in vars(self).items()}}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


#: What `lr=` takes.
Rate: TypeAlias = "float | Schedule | Callable[[int], float]"


def find(operation: str, name: str, value: Rate) -> Schedule:
    """`value` as a schedule."""
    from recurra.layers.layer import Layer  # here, as layers are trained by what needs schedules

    if isinstance(value, Schedule):
        return value
    if isinstance(value, type):
        raise TypeError(
            f"{operation}: got {name}=the class {value.__name__}, expected a number, a schedule or a function; write "
            f"{value.__name__}(...)"
        )
    if isinstance(value, Layer):  # which can be called
        raise TypeError(
            f"{operation}: got {name}=a {type(value).__name__}, expected a number, a schedule or a function of the step; leave "
            f"the model out, as model.fit(..., optimizer=) brings the two together"
        )
    if callable(value):
        return Function(value)
    return Constant(checks.number(operation, name, value))


class Constant(Schedule):
    """The same rate always; a plain number where a schedule is expected means this.

    Args:
        lr: learning rate.
    """

    def __init__(self, lr: float) -> None:
        self.lr = checks.number("Constant", "lr", lr)

    def rate(self, step: int) -> float:
        """lr."""
        return self.lr


class Function(Schedule):
    """Any function of the step; a plain one where a schedule is expected means this.

    Its configuration holds the function's name alone, by which a resumed run recognises it.

    Args:
        function: step -> rate, the same each time it is asked.
    """

    def __init__(self, function: Callable[[int], float]) -> None:
        if not callable(function) or isinstance(function, type):
            raise TypeError(
                f"Function: got {function!r}, expected a function step -> rate; give it, or an object of a schedule's class"
            )
        self.function = function

    def rate(self, step: int) -> float:
        """What the function returns."""
        return self.function(step)

    def config(self) -> dict[str, Any]:
        """Class, and the function's module and name."""
        owner = self.function if hasattr(self.function, "__qualname__") else type(self.function)
        return {"class": "Function", "function": f"{owner.__module__}.{owner.__qualname__}"}
