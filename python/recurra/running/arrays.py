"""Named views of parameters and gradients, of one layer or of all layers of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array

#: The prefix of the names, "" or, in a model, "0.", and a layer's parameters.
Parts: TypeAlias = "Sequence[tuple[str, _core.Parameters]]"


class NamedArrays(Mapping[str, Array]):
    """A mapping from names to views; assigning to a name writes to the viewed memory."""

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
            known = ", ".join(self._places) or "none, as there are no parameters"
            raise KeyError(f"{self._kind}: got the name {name!r}, expected one of: {known}") from None

    def __getitem__(self, name: str) -> Array:
        return self._read(*self._place(name))

    def __setitem__(self, name: str, array: npt.ArrayLike) -> None:
        self._write(*self._place(name), checks.array(self._kind, repr(name), array))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __reduce__(self) -> str:
        raise TypeError(
            f"{self._kind}: views of a model's memory cannot be pickled or copied; take "
            f"{'state_dict()' if self._kind == 'params' else '{name: array.copy() for name, array in grads.items()}'}"
        )

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {array.shape}" for name, array in self.items())
        return f"{self._kind}({shapes})"


def params(parts: Parts) -> NamedArrays:
    """Read-only views; an assignment checks shape and dtype and increments the version."""
    return NamedArrays("params", parts, _core.Parameters.value, _core.Parameters.assign)


def is_view(array: Array) -> bool:
    """Whether the array is a view of the core's memory, as those of `params` are."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return type(base).__name__ == "PyCapsule"


class Edit:
    """`with Edit(parts) as copies:` gives writable copies of parameters, which are written back at the end of the
    block.

    Copies and not views, as a view cannot be revoked: writes after the block have no effect, and a block that raises
    changes nothing.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._copies: dict[tuple[_core.Parameters, str], tuple[Array, Array]] = {}

    def _copy(self, parameters: _core.Parameters, name: str) -> Array:
        key = (parameters, name)
        if key not in self._copies:
            before = parameters.value(name).copy()
            self._copies[key] = before, before.copy()
        return self._copies[key][1]

    def _write(self, parameters: _core.Parameters, name: str, array: Array) -> None:
        copy = self._copy(parameters, name)
        if array is not copy:  # `copies[name] += 1` has already written
            copy[...] = array

    def __enter__(self) -> NamedArrays:
        return NamedArrays("edit", self._parts, self._copy, self._write)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        copies, self._copies = self._copies, {}
        for _before, copy in copies.values():
            copy.flags.writeable = False
        if kind is not None:
            return
        for (parameters, name), (before, _after) in copies.items():
            if parameters.value(name).tobytes() != before.tobytes():
                raise ValueError(
                    f"edit: got {name!r} changed by another writer during the block, expected none, as the end of the "
                    "block would overwrite that change; nothing was written: write through the block, or after it"
                )
        for _prefix, parameters in self._parts:
            parameters.touch()
        after = [(parameters, name, copy) for (parameters, name), (_before, copy) in copies.items()]
        _core.write_whole([parameters for parameters, _name, _copy in after], _core.assign, after)
