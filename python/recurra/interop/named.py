"""The layers of a source by name, to compose a model by hand, with the reasons why others could not be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from recurra.layers.layer import Layer

One = TypeVar("One", bound=Layer)
Group = TypeVar("Group")


class Layers(dict[str, One], Generic[One]):
    """Layers by name; `unknown` says why others could not be read."""

    def __init__(self, operation: str, layers: Mapping[str, One], unknown: Mapping[str, str]) -> None:
        super().__init__(layers)
        self.unknown, self._operation = dict(unknown), operation

    def __missing__(self, name: str) -> One:
        why = self.unknown.get(name, f"not among {', '.join(map(repr, self))}")
        raise KeyError(f"{self._operation}: got the name {name!r}, expected one of a layer that could be read: {why}")

    def answering(self, options: Mapping[str, Any]) -> Layers[One]:
        """These layers, if all that there are options for could be read.

        Raises:
            ValueError: options for a layer that there is not, or with which it could not be read.
        """
        for name in options:
            if name in self.unknown:
                why = self.unknown[name]
                raise ValueError(why if why.startswith(f"{self._operation}: ") else f"{self._operation}: {why}")
            if name not in self:
                raise ValueError(
                    f"{self._operation}: got options for {name!r}, expected the name of a layer, one of "
                    f"{', '.join(map(repr, self))}; change it"
                )
        return self


def read_layers(operation: str, groups: Mapping[str, Group], made: Callable[[str, Group], One]) -> Layers[One]:
    """The layer that `made` makes of each group and its name, unless that raises a ValueError."""
    found: dict[str, One] = {}
    unknown: dict[str, str] = {}
    for name, group in groups.items():
        try:
            found[name] = made(name, group)
        except ValueError as error:
            unknown[name] = str(error)
    return Layers(operation, found, unknown)


def checked_options(operation: str, options: Any) -> dict[str, dict[str, Any]]:
    """Options for layers by name, checked."""
    if options is None:
        return {}
    if not _is_by_name(options) or not all(map(_is_by_name, options.values())):
        raise TypeError(
            f"{operation}: got options={options!r}, expected a dict of arguments for the name of each layer; write "
            f"{{'conv': {{'padding': 'same'}}}}"
        )
    return {name: dict(one) for name, one in options.items()}


def _is_by_name(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
