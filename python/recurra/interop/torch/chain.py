"""The layers read so far from PyTorch's modules, and torch's layout of the values between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.table import Table
from recurra.layers.layer import Layer
from recurra.layers.leaf import LeafLayer

#: Adds the layers for a module to a chain.
Converter = Callable[[Any, "Chain"], None]

#: Converters by the class names of torch.nn.
CONVERTERS: Table[Converter] = Table()
converts = CONVERTERS.enter


class Chain:
    """The layers read so far, and the layout of their output.

    axis: torch's layout of the next module's input. "any"; "features": features last, (N, T, features) or
    (N, features); "second": (N, features) or (N, features, T); "vector": (N, features); "channels": (N, features, T),
    as convolutions take it; "pooled": (N, features, 1); "flat": (N, features * T) after a Flatten, which the next
    Linear absorbs; "image": (N, channels, height, width), where features counts the channels; "pooled image":
    (N, channels, 1, 1) of images whose columns are steps; "end": the pair from a recurrent module.

    height, width: of images; width None: their columns are the steps here.
    """

    def __init__(
        self,
        dtype: str,
        axis: str = "any",
        features: int | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        self.dtype, self.axis, self.features = dtype, axis if height is None else "image", features
        self.height, self.width = height, width
        self.steps_behind = ""  # layout before the Flatten: "channels" or "features"
        self.alone = False  # whether the current module is the whole source
        self.place = ""  # the current module's dotted name
        self.layers: list[Layer] = []

    def add(self, layer: LeafLayer, module: Any = None) -> None:
        """Append a layer, with the parameters of the same names from `module`, if given."""
        if module is not None:
            take(layer, {name: getattr(module, name) for name in (*layer.params, *layer.buffers)})
            learns = [parameter.requires_grad for parameter in module.parameters()]
            layer.trainable = not learns or any(learns)
        self.layers.append(layer)

    def expect(self, module: Any, *axes: str) -> None:
        """Raise unless the layout is one of `axes`, in which the module reads the features."""
        if self.axis in axes:
            return
        said = {
            "any": "no module that tells what the axes are",
            "features": "values whose features are last, (N, T, features)",
            "channels": "values whose steps are last, (N, channels, T)",
            "second": "values whose features are the second axis",
            "vector": "vectors (N, features)",
            "pooled": "values of one step, (N, channels, 1)",
            "image": "images (N, channels, height, width)",
            "pooled image": "images of one place, (N, channels, 1, 1)",
            "flat": "the steps of a sequence flattened, (N, T * features)",
            "end": "the pair of outputs and state that a recurrent module gives",
        }[self.axis]
        cures = dict.fromkeys(("pooled", "pooled image"), "put Flatten() before it")
        cures |= {
            "image": "put a Flatten before it: Flatten() or, where columns are steps, Flatten(1, 2)",
            "flat": "put a Linear behind the Flatten",
        }
        cure = cures.get(self.axis, "convert its parts with rc.interop.torch_layers, and put them together by hand")
        raise self.refused(module, f"got it behind {said}, expected {' or '.join(axes)}", cure)

    def refused(self, module: Any, problem: str, cure: str) -> ValueError:
        """The error for a module that has no counterpart with these options."""
        name = type(module).__name__
        return ValueError(f"from_torch: {self.place or 'module'} ({name}): {problem}; {cure}")


def plain(value: Any) -> Array:
    """A tensor as a numpy array; arrays are unchanged."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().resolve_conj().numpy()
    return np.asarray(value)


def take(layer: Layer, values: Mapping[str, Any]) -> None:
    """Copy parameters and buffers into a layer or model."""
    layer.load_state_dict({name: plain(value) for name, value in values.items()})
