"""What the layers written in Python add to their gradients in one backward: kept apart until all of it is done.

So a backward that fails takes away nothing but its own, whatever other threads have added, and no lock is held while
users' code runs, which may run another backward: a model inside the layer, a signal's handler, a finaliser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from recurra import _core
from recurra.common.typing import Array
from recurra.running import arrays

if TYPE_CHECKING:
    from recurra.layers.leaf import LeafLayer

_Result = TypeVar("_Result")

#: Flat gradients by the parameters of the layers at work in the innermost backward.
_at_work: ContextVar[dict[_core.Parameters, Array] | None] = ContextVar("_at_work", default=None)


def collect(layers: Iterable[LeafLayer], run: Callable[[], _Result]) -> tuple[_Result, dict[_core.Parameters, Array]]:
    """run(), and what these layers added to their gradients meanwhile, on this thread."""
    flat = {layer.parameters: np.zeros(layer.parameters.size, layer.parameters.dtype) for layer in layers}

    def within() -> _Result:
        _at_work.set(flat)
        return run()

    return copy_context().run(within), flat  # which forgets `flat` again, however it ends


def of(layer: LeafLayer) -> arrays.NamedArrays | None:
    """The layer's own part of the backward at work on this thread; None if there is none."""
    flat = _at_work.get()
    if flat is None or layer.parameters not in flat:
        return None

    def view(parameters: _core.Parameters, name: str) -> Array:
        begin, end = parameters.span(name)
        return flat[parameters][begin:end].reshape(parameters.shape(name))

    def write(parameters: _core.Parameters, name: str, array: Array) -> None:
        view(parameters, name)[...] = array

    return arrays.NamedArrays("grads", [("", layer.parameters)], view, write)
