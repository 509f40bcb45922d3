"""Reads PyTorch's modules and parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from recurra.common import checks
from recurra.interop.torch import by_hand
from recurra.interop.torch.chain import Chain
from recurra.interop.torch.convert import convert, dtype_of, is_own
from recurra.interop.torch.parts import layers_of_parameters, read_parameters
from recurra.layers.layer import Layer
from recurra.models.sequential import Sequential


def from_torch(source: Any, *, height: int | None = None, width: int | None = None) -> Layer:
    """Convert a module of torch.nn to the equivalent layer or model, with copies of its parameters.

    A `Sequential`, nested or not, becomes a `recurra.Sequential`; a module alone becomes the layer. docs/from_torch.md
    lists the classes and options. Arrays are (N, T, features) here, even for convolutions, which take (N, features, T)
    in torch; a single recurrent layer keeps its batch_first. Frozen parameters stay frozen. The module may be on any
    device.

    A module with a custom `forward` cannot be converted. `recurra.interop.torch_layers` reads its layers, and the error
    shows how to compose them.

    Args:
        source: a module; or the parameters of a single layer: a state_dict, or the path of a safetensors file.
        height, width: of the images that the module takes, (N, channels, height, width). With height alone their
            columns become steps, (N, width, height * channels) here; with both, each image is a vector or a step,
            (N, height * width * channels). `Conv2d` describes the layout.

    Raises:
        TypeError: `source` is not a module, a mapping or a path.
        ValueError: a module without a counterpart here, which the message names; a dtype other than float32 and
            float64; a pickle file, which could run any code: pass the result of torch.load(path, weights_only=True).
        ModelFormatError: the file is not a safetensors file.

    Example:
        >>> import torch
        >>> module = torch.nn.Sequential(torch.nn.Embedding(50, 8), torch.nn.Linear(8, 2))
        >>> model = rc.from_torch(module)
        >>> model(np.ones((4, 20), int))[0].shape
        (4, 20, 2)
    """
    if isinstance(source, str | os.PathLike | Mapping):
        parameters = read_parameters("from_torch", source)
        layers = layers_of_parameters("from_torch", parameters, {})
        if list(layers) == [""] or (len(layers) == 1 and not layers.unknown):
            return next(iter(layers.values()))
        if not layers:
            why = next(
                iter(layers.unknown.values()), "got an empty state_dict, expected a layer's; give its parameters"
            )
            raise ValueError(why if why.startswith("from_torch: ") else f"from_torch: {why}")
        raise by_hand.no_order("a state_dict", layers)
    if not _is_module(source):
        raise TypeError(
            f"from_torch: got {type(source).__name__}, expected a torch.nn.Module, a state_dict or the path of a "
            "safetensors file; give one of them"
        )
    if config := getattr(source, "recurra_config", None):
        return by_hand.rebuilt(source, config, dtype_of(source))
    return module_as_layer(source, _size("height", height), _size("width", width))


def _size(name: str, value: Any) -> int | None:
    return None if value is None else checks.integer("from_torch", name, value)


def module_as_layer(source: Any, height: int | None = None, width: int | None = None) -> Layer:
    """Convert a whole module."""
    chain = Chain(dtype_of(source), height=height, width=width)
    if is_sequential(source):
        _check_shared(source)
        model = _sequential(source, chain, "")
        if model is None:
            raise ValueError("from_torch: got a Sequential without any layer, expected at least one; add one")
        if chain.axis in ("pooled", "pooled image", "flat"):
            raise chain.refused(
                source,
                "got an end with a Flatten or an adaptive pool, expected something behind it",
                "put Flatten() behind the pool, and a Linear behind the Flatten",
            )
        return model
    chain.alone = True
    convert(source, chain)
    if len(chain.layers) == 1:
        return chain.layers[0]
    if not chain.layers:
        raise chain.refused(source, "got a module that computes nothing alone", "put it into a Sequential")
    return Sequential(*chain.layers)


def is_sequential(module: Any) -> bool:
    """Whether the module is a Sequential."""
    return any(is_own(module, cls) and cls.__name__ == "Sequential" for cls in type(module).__mro__)


def _sequential(source: Any, chain: Chain, place: str) -> Sequential | None:
    layers: list[Layer] = []
    for name, module in source.named_children():
        if is_sequential(module):
            inner = _sequential(module, chain, f"{place}{name}.")
            layers += [inner] if inner is not None else []
            continue
        chain.place, chain.layers = place + name, []
        convert(module, chain)
        layers += chain.layers
    return Sequential(*layers) if layers else None


def _check_shared(source: Any) -> None:
    """Raise if a module with parameters occurs twice, as it would have two names."""
    met: dict[int, str] = {}
    for name, module in source.named_modules(remove_duplicate=False):
        first = met.setdefault(id(module), name)
        if first != name and any(True for _one in module.parameters()):
            raise ValueError(
                f"from_torch: got one module as {first} and {name}, expected each once; take its layers by "
                f"rc.interop.torch_layers, and call one twice in a rc.Model"
            )


def _is_module(source: Any) -> bool:
    return any(cls.__module__.startswith("torch.") and cls.__name__ == "Module" for cls in type(source).__mro__)
