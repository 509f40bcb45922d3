"""Values while a graph is traced for given input shapes."""

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
    """A symbol of an island, seen with other axes.

    base: the symbol's shape, (N, T, F) or (N, F). order: the kinds of the value's axes, without those of size 1: "N",
    "T", "F", and "D" for the directions, with which the symbol's features are D times F.
    """

    island: Island
    symbol: Symbol
    base: tuple[int, ...]
    order: str
    directions: int = 1

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each kind of axis; vectors have no T."""
        return _axis_sizes(self.base, self.directions)


def _axis_sizes(base: tuple[int, ...], directions: int) -> dict[str, int]:
    found = {"N": base[0], "F": base[-1] // directions, "D": directions}
    return found if len(base) < 3 else {**found, "T": base[1]}


@dataclass(frozen=True)
class Turned:
    """A slot's array, transposed: its axes, without those of size 1, have `sizes` and are permuted by `axes`."""

    slot: int
    sizes: tuple[int, ...]
    axes: tuple[int, ...]

    @classmethod
    def of(cls, slot: int, shape: tuple[int, ...]) -> Turned:
        """The array in its own order."""
        sizes = wide(shape)
        return cls(slot, sizes, tuple(range(len(sizes))))

    def array(self, array: Array, shape: tuple[int, ...]) -> Array:
        """The slot's array, transposed and reshaped to `shape`."""
        found: Array = array.reshape(self.sizes).transpose(self.axes).reshape(shape)
        return found


def wide(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of the axes, without those of size 1."""
    return tuple(size for size in shape if size != 1)


@dataclass
class Value:
    """A traced value: a constant, a slot, a transposed slot, or a view, which may have a slot too.

    shape: None if only a run tells.
    """

    shape: tuple[int, ...] | None
    dtype: np.dtype[Any] | None
    known: Array | None = None
    slot: int | None = None
    view: View | None = None
    turned: Turned | None = None


@dataclass(frozen=True)
class Arrangement:
    """Converts between the graph's shape and a symbol's: axes, without those of size 1, in another order."""

    shape: tuple[int, ...]
    base: tuple[int, ...]
    order: str
    directions: int

    @cached_property
    def _turns(self) -> tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]] | None:
        """Sizes and permutation from the graph's array to the symbol's, and back; None if the order is the same."""
        plain = "".join(one for one in "NTDF" if one in self.order)
        if plain == self.order:
            return None
        sizes = _axis_sizes(self.base, self.directions)
        return (
            ([sizes[one] for one in self.order], [self.order.index(one) for one in plain]),
            ([sizes[one] for one in plain], [plain.index(one) for one in self.order]),
        )

    def to_base(self, array: Array) -> Array:
        """The array in the symbol's shape, (N, T, F) or (N, F)."""
        if self._turns is not None:
            sizes, order = self._turns[0]
            array = array.reshape(sizes).transpose(order)
        elif array.flags.c_contiguous:
            return array.reshape(self.base)
        return np.ascontiguousarray(array).reshape(self.base)

    def from_base(self, array: Array) -> Array:
        """The symbol's array in the graph's shape."""
        if self._turns is not None:
            sizes, order = self._turns[1]
            array = array.reshape(sizes).transpose(order)
        return array.reshape(self.shape)


def labelled(shape: tuple[int, ...], pattern: str) -> tuple[str, dict[str, int]]:
    """The axes' kinds in order, without those of size 1, and each kind's size, for an array with the axes `pattern`."""
    sizes = dict(zip(pattern, shape, strict=True))
    return "".join(one for one, size in zip(pattern, shape, strict=True) if size != 1), sizes


def merged(view: View) -> View:
    """The view with directions and features as one axis F, if they are adjacent, D first; else the view itself."""
    view = settled(view)
    if view.directions == 1 or "DF" not in view.order:
        return view
    return View(view.island, view.symbol, view.base, view.order.replace("DF", "F"), 1)


def settled(view: View) -> View:
    """The view with directions of one feature each as features. Its value's axes stay, each with a letter in the
    order."""
    if view.directions == 1 or view.sizes["F"] != 1:
        return view
    return View(view.island, view.symbol, view.base, view.order.replace("D", "F"), 1)


def sizes_of(view: View) -> list[int]:
    """The sizes of the axes, without those of size 1."""
    return [view.sizes[one] for one in view.order]
