"""Layers in a row as they are read from PyTorch's modules, and how the values between them are laid out there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.table import Table
from recurra.layers.layer import Layer
from recurra.layers.leaf import LeafLayer

#: What adds the layers of a module to a chain.
Converter = Callable[[Any, "Chain"], None]

#: By the name of a class of torch.nn.
CONVERTERS: Table[Converter] = Table()
converts = CONVERTERS.enter


class Chain:
    """What has been read so far.

    axis: how torch lays out what comes next. "any"; "features": they are last, (N, T, features) or (N, features); "second":
    (N, features) or (N, features, T); "vector": (N, features); "channels": (N, features, T), as convolutions want it;
    "pooled": (N, features, 1); "flat": (N, features * T) behind a Flatten, which the next Linear takes in; "end": a pair,
    behind a recurrent module.
    """

    def __init__(self, dtype: str, axis: str = "any", features: int | None = None) -> None:
        self.dtype, self.axis, self.features = dtype, axis, features
        self.steps_behind = ""  # what was flattened: "channels" or "features"
        self.alone = False  # whether the module at hand is all there is
        self.place = ""  # of the module at hand, in the whole
        self.layers: list[Layer] = []

    def add(self, layer: LeafLayer, module: Any = None) -> None:
        """A layer, with the parameters of the same names of a module, if there is one."""
        if module is not None:
            take(layer, {name: getattr(module, name) for name in (*layer.params, *layer.buffers)})
            learns = [parameter.requires_grad for parameter in module.parameters()]
            layer.trainable = not learns or any(learns)
        self.layers.append(layer)

    def expect(self, module: Any, *axes: str) -> None:
        """Refuse a module that would read another axis as features than this one does."""
        if self.axis in axes:
            return
        said = {
            "features": "values whose features are last, (N, T, features)",
            "channels": "values whose steps are last, (N, channels, T)",
            "second": "values whose features are the second axis",
            "vector": "vectors (N, features)",
            "pooled": "values of one step, (N, channels, 1)",
            "flat": "the steps of a sequence flattened, (N, T * features)",
            "end": "the pair of outputs and state that a recurrent module gives",
        }[self.axis]
        cures = {"pooled": "put Flatten() before it", "flat": "put a Linear behind the Flatten"}
        cure = cures.get(self.axis, "convert its parts with rc.interop.torch_layers, and put them together by hand")
        raise self.refused(module, f"got it behind {said}, expected {' or '.join(axes)}", cure)

    def refused(self, module: Any, problem: str, cure: str) -> ValueError:
        """The error about a module that has no counterpart as it is."""
        name = type(module).__name__
        return ValueError(f"from_torch: {self.place or 'module'} ({name}): {problem}; {cure}")


def plain(value: Any) -> Array:
    """A tensor as an array of numpy; arrays are what they are."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().resolve_conj().numpy()
    return np.asarray(value)


def take(layer: Layer, values: Mapping[str, Any]) -> None:
    """Copy these parameters and buffers into a layer or model of theirs."""
    layer.load_state_dict({name: plain(value) for name, value in values.items()})
