"""What is known of a value while a graph is made into layers for inputs of certain shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.typing import Array

if TYPE_CHECKING:
    from recurra.graph.symbolic import Symbol
    from recurra.interop.onnx.island import Island


@dataclass(frozen=True)
class View:
    """A symbol of an island, looked at in other axes.

    base: the symbol's own shape, (N, T, F) or (N, F). order: what the value's axes of more than one place are, in its
    order: "N", "T", "F", and "D", the directions, where F is D times its size here.
    """

    island: Island
    symbol: Symbol
    base: tuple[int, ...]
    order: str
    directions: int = 1

    @property
    def sizes(self) -> dict[str, int]:
        """Of each kind of axis; T is missing of vectors."""
        found = {"N": self.base[0], "F": self.base[-1] // self.directions, "D": self.directions}
        return found if len(self.base) < 3 else {**found, "T": self.base[1]}


@dataclass(frozen=True)
class Turned:
    """An array of a run, looked at in other axes: its own axes of more than one place are `sizes`, in the order `axes`."""

    slot: int
    sizes: tuple[int, ...]
    axes: tuple[int, ...]

    @classmethod
    def of(cls, slot: int, shape: tuple[int, ...]) -> Turned:
        """An array as it is."""
        sizes = wide(shape)
        return cls(slot, sizes, tuple(range(len(sizes))))

    def array(self, array: Array, shape: tuple[int, ...]) -> Array:
        """The array in these axes."""
        found: Array = array.reshape(self.sizes).transpose(self.axes).reshape(shape)
        return found


def wide(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of the axes of more than one place."""
    return tuple(size for size in shape if size != 1)


@dataclass
class Value:
    """shape: None if it is known only when the model runs. Where it comes from: an array that is known, a place among a run's
    arrays, one of these in other axes, or a view of a symbol; the latter may have a place, too."""

    shape: tuple[int, ...] | None
    dtype: np.dtype[Any] | None
    known: Array | None = None
    slot: int | None = None
    view: View | None = None
    turned: Turned | None = None


@dataclass(frozen=True)
class Arrangement:
    """How an array of a graph's shape is one of a symbol's: the axes of more than one place in another order."""

    shape: tuple[int, ...]
    base: tuple[int, ...]
    order: str
    directions: int

    def _plain(self) -> tuple[str, dict[str, int]]:
        letters = "NTDF" if len(self.base) == 3 else "NDF"
        sizes = {"N": self.base[0], "F": self.base[-1] // self.directions, "D": self.directions}
        if len(self.base) == 3:
            sizes["T"] = self.base[1]
        return "".join(one for one in letters if one in self.order), sizes

    @cached_property
    def _in_order(self) -> bool:
        return self._plain()[0] == self.order

    def to_base(self, array: Array) -> Array:
        """(N, T, F) or (N, F)."""
        if self._in_order:
            return np.ascontiguousarray(array).reshape(self.base)
        plain, sizes = self._plain()
        flat = array.reshape([sizes[one] for one in self.order])
        return np.ascontiguousarray(flat.transpose([self.order.index(one) for one in plain])).reshape(self.base)

    def from_base(self, array: Array) -> Array:
        """The graph's shape."""
        if self._in_order:
            return array.reshape(self.shape)
        plain, sizes = self._plain()
        split = array.reshape([sizes[one] for one in plain])
        found: Array = split.transpose([plain.index(one) for one in self.order]).reshape(self.shape)
        return found


def labelled(shape: tuple[int, ...], pattern: str) -> tuple[str, dict[str, int]]:
    """The order of axes, and the size of each kind, of an array whose axes are `pattern`."""
    sizes = dict(zip(pattern, shape, strict=True))
    return "".join(one for one, size in zip(pattern, shape, strict=True) if size != 1), sizes


def merged(view: View) -> View:
    """Directions and features as one kind of axis, where they lie side by side, D first."""
    if view.directions == 1:
        return view
    if view.sizes["F"] == 1:
        return View(view.island, view.symbol, view.base, view.order.replace("D", "F"), 1)
    return View(view.island, view.symbol, view.base, view.order.replace("DF", "F"), 1) if "DF" in view.order else view


def sizes_of(view: View) -> list[int]:
    """The sizes of the axes of more than one place."""
    return [view.sizes[one] for one in view.order]


def count(shape: tuple[int, ...]) -> int:
    """Numbers in an array."""
    return math.prod(shape)
