"""Views of parameters and gradients by name, over one layer or all layers of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy.typing as npt

from recurra import _core, checks
from recurra.typing import Array

#: A layer's parameters and what stands before their names: "" or, in a model, "0.".
Parts: TypeAlias = "Sequence[tuple[str, _core.Parameters]]"


class NamedArrays(Mapping[str, Array]):
    """A mapping from names to views; assigning to a name writes into the memory behind it."""

    def __init__(
        self,
        kind: str,
        parts: Parts,
        read: Callable[[_core.Parameters, str], Array],
        write: Callable[[_core.Parameters, str, Array], None],
    ) -> None:
        self._kind, self._read, self._write = kind, read, write
        self._places = {prefix + name: (parameters, name) for prefix, parameters in parts for name in parameters.names}

    def _place(self, name: str) -> tuple[_core.Parameters, str]:
        try:
            return self._places[name]
        except (KeyError, TypeError):
            known = ", ".join(self._places) or "none at all"
            raise KeyError(f"{self._kind}: got the name {name!r}, expected one of: {known}") from None

    def __getitem__(self, name: str) -> Array:
        return self._read(*self._place(name))

    def __setitem__(self, name: str, array: npt.ArrayLike) -> None:
        self._write(*self._place(name), checks.array(self._kind, repr(name), array))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {array.shape}" for name, array in self.items())
        return f"{self._kind}({shapes})"


def _write_gradient(parameters: _core.Parameters, name: str, array: Array) -> None:
    parameters.grad(name)[...] = array  # also what `grads[name] += array` ends with


def params(parts: Parts) -> NamedArrays:
    """Read-only views; an assignment checks shape and dtype and moves the version on."""
    return NamedArrays("params", parts, _core.Parameters.value, _core.Parameters.assign)


def grads(parts: Parts) -> NamedArrays:
    """Writable views of the gradients."""
    return NamedArrays("grads", parts, _core.Parameters.grad, _write_gradient)


class Edit:
    """`with Edit(parts) as views:` writable views of parameters, which become read-only at the end."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._views: dict[tuple[_core.Parameters, str], Array] = {}

    def _view(self, parameters: _core.Parameters, name: str) -> Array:
        key = (parameters, name)
        if key not in self._views:
            self._views[key] = parameters.writable(name)
        return self._views[key]

    def _write(self, parameters: _core.Parameters, name: str, array: Array) -> None:
        view = self._view(parameters, name)
        if array is not view:  # `views[name] += 1` has written already
            view[...] = array

    def __enter__(self) -> NamedArrays:
        return NamedArrays("edit", self._parts, self._view, self._write)

    def __exit__(self, *_: object) -> None:
        for view in self._views.values():
            view.flags.writeable = False
        for _prefix, parameters in self._parts:
            parameters.touch()
