"""The layers made for a graph's nodes, shared by all plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from recurra.common import initialise
from recurra.layers.leaf import LeafLayer

Made = TypeVar("Made", bound=LeafLayer)


def filled(cls: type[Made], values: Mapping[str, Any], *args: Any, **options: Any) -> Made:
    """A layer with these parameters and buffers, without random initialisation."""
    with initialise.drawing(False):
        layer = cls(*args, **options)
    layer.load_state_dict({name: np.ascontiguousarray(one, layer.dtype) for name, one in values.items()})
    return layer


class LayerStore:
    """Layers by node or, without parameters, by class and options."""

    def __init__(self) -> None:
        self._found: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The layer stored under `key`, made if missing."""
        if key not in self._found:
            self._found[key] = make()
        return self._found[key]

    def plain(self, cls: type[LeafLayer], *args: Any, **options: Any) -> Any:
        """A layer without parameters, made if missing."""
        return self.get((cls, args, tuple(sorted(options.items()))), lambda: cls(*args, **options))
