"""The table of a reader's converters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Table(dict[str, T]):
    """Converters by the names of another framework's classes."""

    def enter(self, *names: str) -> Callable[[T], T]:
        """A decorator for the converter of these classes; a converter for a new class is found like this."""

        def entered(converter: T) -> T:
            self.update(dict.fromkeys(names, converter))
            return converter

        return entered
