"""A reader's table of converters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Table(dict[str, T]):
    """Converters by the names of the other framework's classes."""

    def enter(self, *names: str) -> Callable[[T], T]:
        """A decorator that registers a converter for the classes `names`."""

        def entered(converter: T) -> T:
            self.update(dict.fromkeys(names, converter))
            return converter

        return entered
