"""Gradients that layers written in Python accumulate during one backward, kept separate until all of it has succeeded.

A backward that fails thus discards only its own gradients, whatever other threads add, and no lock is held while users'
code runs, which may start another backward: of a model inside the layer, in a signal handler, in a finaliser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from recurra import _core
from recurra.common.typing import Array
from recurra.running.gradients import FlatGradients, Gradients

if TYPE_CHECKING:
    from recurra.layers.leaf import LeafLayer

_Result = TypeVar("_Result")

#: The flat gradients of the innermost backward on this thread, by the layers' parameters.
_at_work: ContextVar[dict[_core.Parameters, Array] | None] = ContextVar("_at_work", default=None)


def collect(layers: Iterable[LeafLayer], run: Callable[[], _Result]) -> tuple[_Result, dict[_core.Parameters, Array]]:
    """The result of run(), and the gradients that these layers accumulated during it on this thread."""
    flat = {layer.parameters: np.zeros(layer.parameters.size, layer.parameters.dtype) for layer in layers}

    def within() -> _Result:
        _at_work.set(flat)
        return run()

    return copy_context().run(within), flat  # the context forgets `flat`, even after an exception


def of(layer: LeafLayer) -> Gradients | None:
    """The layer's gradients in the backward running on this thread; None outside one."""
    flat = _at_work.get()
    if flat is None or layer.parameters not in flat:
        return None
    return FlatGradients("grads", [("", layer.parameters)], flat[layer.parameters])
