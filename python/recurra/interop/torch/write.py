"""Writes models as modules of PyTorch."""

from __future__ import annotations

import torch

from recurra.interop.torch.modules import module_of
from recurra.interop.torch.network import Network
from recurra.layers.layer import Layer
from recurra.layers.leaf import LeafLayer
from recurra.saving import registry


def to_torch(model: Layer) -> torch.nn.Module:
    """The layer as a torch.nn.Module; see `Layer.to_torch`."""
    if isinstance(model, LeafLayer):
        module = module_of("to_torch", model)
        if not getattr(module, "takes_lengths", False) and getattr(model, "return_sequences", True):
            if not type(module).__module__.startswith("torch."):
                module.recurra_config = registry.describe(model)  # what only `from_torch` of such a module reads
            return module
    network = Network(model)
    return network.train(False)
