"""Models and weights of other frameworks: readers, writers, and gate orders."""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from recurra.common import later as _later

if _TYPE_CHECKING:
    from recurra.interop.dynet import dynet_layers, dynet_parameters
    from recurra.interop.gate_orders import gates
    from recurra.interop.keras.parts import keras_layers
    from recurra.interop.torch.parts import torch_layers

__getattr__, __dir__ = _later.attributes(
    globals(),
    {
        "dynet_layers": "recurra.interop.dynet",
        "dynet_parameters": "recurra.interop.dynet",
        "gates": "recurra.interop.gate_orders",
        "keras_layers": "recurra.interop.keras.parts",
        "torch_layers": "recurra.interop.torch.parts",
    },
)

__all__ = ["dynet_layers", "dynet_parameters", "gates", "keras_layers", "torch_layers"]
