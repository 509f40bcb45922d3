"""Objects by their names, or by their classes, as Keras takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from recurra.common import checks

T = TypeVar("T")


def found(
    operation: str, name: str, value: Any, expected: Any, package: str, names: Mapping[str, Callable[[], T]]
) -> T:
    """The object of class `expected` that the argument `name` means: itself, its name, or a class that needs no
    arguments.

    Raises:
        ValueError: no such name. TypeError: something else.
    """
    made: T = value
    if isinstance(value, expected):
        return made
    if isinstance(value, str):
        key = value.lower()
        if key in names:
            return names[key]()
        squeezed = {one.replace("_", ""): one for one in names}  # "MeanSquaredError"
        if key.replace("_", "") in squeezed:
            return names[squeezed[key.replace("_", "")]]()
        import difflib  # here: an import of recurra need not wait for what only errors need

        close = difflib.get_close_matches(key, names, 1, 0.7)
        hint = f"write {name}={close[0]!r}" if close else f"choose one, or give an object of {package}"
        raise ValueError(f"{operation}: got {name}={value!r}, expected one of {', '.join(sorted(names))}; {hint}")
    if (
        inspect.isclass(value)
        and issubclass(value, expected)
        and not inspect.isabstract(value)
        and checks.needs_no_arguments(value)
    ):
        of_class: T = value()  # type: ignore[assignment]
        return of_class
    checks.kind(operation, name, value, expected, package)
    return made  # a user's own class may say that it is one
