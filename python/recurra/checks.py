"""Checks of plain arguments at the door: each returns the value as a plain Python number, fit for a configuration."""

from __future__ import annotations

import math
import operator
from typing import Any


def integer(operation: str, name: str, value: Any, minimum: int = 1) -> int:
    """`value` as an int of at least `minimum`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{operation}: got {name}={value!r} of type {type(value).__name__}, expected an integer; "
            f"write {name}=int(...)"
        ) from None
    if isinstance(value, bool) or number < minimum:
        raise ValueError(f"{operation}: got {name}={value!r}, expected an integer of at least {minimum}; change {name}")
    return number


def number(operation: str, name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """`value` as a finite float with low <= value <= high."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"{operation}: got {name}={value!r} of type {type(value).__name__}, expected a number; write {name}=float(...)"
        ) from None
    if not (math.isfinite(result) and low <= result <= high):
        bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{operation}: got {name}={value!r}, expected a finite number {bounds}; change {name}")
    return result


def flag(operation: str, name: str, value: Any) -> bool:
    """`value` as a bool; nothing but a truth value passes, so that a misplaced argument does not."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{operation}: got {name}={value!r}, expected True or False; pass {name} by keyword")
    return bool(value)


def choice(operation: str, name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """`value`, one of `allowed`."""
    if not any(type(value) is type(one) and value == one for one in allowed):
        words = ", ".join(map(repr, allowed))
        raise ValueError(f"{operation}: got {name}={value!r}, expected one of {words}; change {name}")
    return value
