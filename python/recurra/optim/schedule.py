"""The base class of learning rate schedules, and the schedules that stand for numbers and functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

from recurra.common import checks
from recurra.common.structure import plain


class Schedule(ABC):
    """`schedule(step)` is the learning rate of step `step`, counted from 0.

    A subclass defines `rate` and stores the constructor's arguments in attributes of the same names. Two schedules are
    equal if their classes and attributes are.

    Example:
        >>> schedule = rc.optim.schedules.CosineDecay(1e-2, steps=100)
        >>> optimizer = rc.optim.Adam(schedule)
        >>> schedule(0), schedule(100)
        (0.01, 0.0)
    """

    @abstractmethod
    def rate(self, step: int) -> float:
        """The rate of step `step`, 0 for the first."""

    def __call__(self, step: int) -> float:
        """The rate of step `step`, with argument and result checked.

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


#: The type of `lr=`.
Rate: TypeAlias = "float | Schedule | Callable[[int], float]"


def find(operation: str, name: str, value: Rate) -> Schedule:
    """`value` as a schedule."""
    from recurra.layers.layer import Layer  # here, to avoid an import cycle

    if isinstance(value, Schedule):
        return value
    if isinstance(value, type):
        raise TypeError(
            f"{operation}: got {name}=the class {value.__name__}, expected a number, a schedule or a function; write "
            f"{value.__name__}(...)"
        )
    if isinstance(value, Layer):  # layers are callable too
        raise TypeError(
            f"{operation}: got {name}=a {type(value).__name__}, expected a number, a schedule or a function of the "
            "step; leave the model out, and connect the two by model.fit(..., optimizer=...)"
        )
    if callable(value):
        return Function(value)
    return Constant(checks.number(operation, name, value))


class Constant(Schedule):
    """A constant rate; where a schedule is expected, a plain number means this.

    Args:
        lr: learning rate.

    Example:
        >>> schedule = rc.optim.schedules.Constant(0.01)
        >>> [round(schedule(step), 5) for step in (0, 500)]
        [0.01, 0.01]
    """

    def __init__(self, lr: float) -> None:
        self.lr = checks.number("Constant", "lr", lr)

    def rate(self, step: int) -> float:
        """The rate lr."""
        return self.lr


class Function(Schedule):
    """A function of the step; where a schedule is expected, a plain function means this.

    Its `config()` has only the function's name, by which a resumed run recognises it.

    Args:
        function: step -> rate, always the same for the same step.

    Example:
        >>> schedule = rc.optim.schedules.Function(lambda step: 0.01 / (1 + step))
        >>> schedule(0), schedule(9)
        (0.01, 0.001)
    """

    def __init__(self, function: Callable[[int], float]) -> None:
        if not callable(function) or isinstance(function, type):
            raise TypeError(
                f"Function: got {function!r}, expected a function step -> rate; give one, or an instance of a schedule"
            )
        self.function = function

    def rate(self, step: int) -> float:
        """The function's rate for this step."""
        return self.function(step)

    def config(self) -> dict[str, Any]:
        """The class, and the function's module and name."""
        owner = self.function if hasattr(self.function, "__qualname__") else type(self.function)
        return {"class": "Function", "function": f"{owner.__module__}.{owner.__qualname__}"}
