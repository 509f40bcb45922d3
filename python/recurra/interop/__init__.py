"""Models and weights of other frameworks: readers, writers, and gate orders."""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from recurra.common import later as _later

if _TYPE_CHECKING:
    from recurra.interop.gate_orders import gates
    from recurra.interop.torch.parts import torch_layers

__getattr__, __dir__ = _later.attributes(
    globals(),
    {
        "gates": "recurra.interop.gate_orders",
        "torch_layers": "recurra.interop.torch.parts",
    },
)

__all__ = ["gates", "torch_layers"]
