"""What is known of a value while a graph is made into layers for inputs of certain shapes."""

from __future__ import annotations

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
        return _axis_sizes(self.base, self.directions)


def _axis_sizes(base: tuple[int, ...], directions: int) -> dict[str, int]:
    found = {"N": base[0], "F": base[-1] // directions, "D": directions}
    return found if len(base) < 3 else {**found, "T": base[1]}


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

    @cached_property
    def _turns(self) -> tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]] | None:
        """The sizes of a graph's array and the order in which the symbol has these axes; the same from the symbol's to
        the graph's. None where the order is the same."""
        plain = "".join(one for one in "NTDF" if one in self.order)
        if plain == self.order:
            return None
        sizes = _axis_sizes(self.base, self.directions)
        return (
            ([sizes[one] for one in self.order], [self.order.index(one) for one in plain]),
            ([sizes[one] for one in plain], [plain.index(one) for one in self.order]),
        )

    def to_base(self, array: Array) -> Array:
        """(N, T, F) or (N, F)."""
        if self._turns is not None:
            sizes, order = self._turns[0]
            array = array.reshape(sizes).transpose(order)
        return np.ascontiguousarray(array).reshape(self.base)

    def from_base(self, array: Array) -> Array:
        """The graph's shape."""
        if self._turns is not None:
            sizes, order = self._turns[1]
            array = array.reshape(sizes).transpose(order)
        return array.reshape(self.shape)


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
