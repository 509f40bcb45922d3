"""The structure of a model's inputs or outputs: a single one, a tuple, or a dict by names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def plain(value: Any) -> Any:
    """Arguments as JSON would return them; anything JSON cannot hold becomes the name of its class."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # of numpy
        return plain(value.tolist())
    if hasattr(value, "config"):
        return plain(value.config())
    return value if value is None or isinstance(value, str | int | float) else type(value).__name__


class Structure:
    """A single item if `count` is None, a tuple of `count` items, or a dict with these `names`."""

    def __init__(self, count: int | None = None, names: tuple[str, ...] | None = None) -> None:
        self.count, self.names = count, names

    @classmethod
    def of(cls, value: Any) -> Structure:
        """The structure of an example."""
        if isinstance(value, Mapping):
            return cls(len(value), tuple(value))
        return cls(len(value)) if isinstance(value, tuple | list) else cls()

    def spread(self, operation: str, what: str, value: Any) -> list[Any]:
        """The items of `value` in order; `what` is their name in messages."""
        if self.count is None:
            return [value]
        if self.names is not None:
            if not isinstance(value, Mapping) or set(value) != set(self.names):
                got = f"the names {', '.join(map(repr, value))}" if isinstance(value, Mapping) else type(value).__name__
                names = ", ".join(map(repr, self.names))
                raise ValueError(
                    f"{operation}: got {what} of {got}, expected a dict with the names {names}; give one for each"
                )
            return [value[name] for name in self.names]
        if not isinstance(value, tuple | list) or len(value) != self.count:
            got = f"{len(value)} parts" if isinstance(value, tuple | list) else type(value).__name__
            raise ValueError(
                f"{operation}: got {what} of {got}, expected a tuple of {self.count}; write ({what}_0, {what}_1, ...)"
            )
        return list(value)

    def spread_optional(self, operation: str, what: str, value: Any) -> list[Any]:
        """The same; None stands for None everywhere."""
        return [None] * (self.count or 1) if value is None else self.spread(operation, what, value)

    def join(self, parts: Sequence[Any]) -> Any:
        """The items in this structure."""
        if self.count is None:
            return parts[0]
        return dict(zip(self.names, parts, strict=True)) if self.names is not None else tuple(parts)

    def label(self, what: str, index: int) -> str:
        """The name of one item in messages."""
        if self.count is None:
            return what
        return f"{what}[{self.names[index]!r}]" if self.names is not None else f"{what}[{index}]"

    def config(self) -> int | list[str] | None:
        """As plain data."""
        return list(self.names) if self.names is not None else self.count

    @classmethod
    def from_config(cls, config: int | list[str] | None) -> Structure:
        """From what `config` returned."""
        return cls(len(config), tuple(config)) if isinstance(config, list) else cls(config)


ALONE = Structure()
