"""Layers made of a graph's nodes, once for all shapes of inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from recurra.common import initialise
from recurra.layers.leaf import LeafLayer

Made = TypeVar("Made", bound=LeafLayer)


def filled(cls: type[Made], values: Mapping[str, Any], *args: Any, **options: Any) -> Made:
    """A layer with these parameters and buffers; none are drawn first."""
    with initialise.drawing(False):
        layer = cls(*args, **options)
    layer.load_state_dict({name: np.ascontiguousarray(one, layer.dtype) for name, one in values.items()})
    return layer


class LayerStore:
    """By the node, or by what a layer without parameters does."""

    def __init__(self) -> None:
        self._found: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The layer of that key, made if there is none."""
        if key not in self._found:
            self._found[key] = make()
        return self._found[key]

    def plain(self, cls: type[LeafLayer], *args: Any, **options: Any) -> Any:
        """A layer without parameters."""
        return self.get((cls, args, tuple(sorted(options.items()))), lambda: cls(*args, **options))
