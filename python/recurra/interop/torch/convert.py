"""Converts one module of PyTorch with its class's converter."""

from __future__ import annotations

import inspect
from typing import Any

from recurra.interop.torch import (  # register their converters
    by_hand,
    image_modules,
    plain_modules,
    recurrent,
    window_modules,
)
from recurra.interop.torch.chain import CONVERTERS, Chain

__all__ = [
    "convert",
    "converter_name",
    "dtype_of",
    "image_modules",
    "is_own",
    "plain_modules",
    "recurrent",
    "window_modules",
]


def converter_name(module: Any) -> str | None:
    """The name of the class of torch.nn whose forward the module runs, if it has a converter; else None."""
    for cls in type(module).__mro__:
        if cls.__name__ in CONVERTERS and is_own(module, cls):
            return cls.__name__
    return None


def convert(module: Any, chain: Chain) -> None:
    """Add the layers for a module that is not a Sequential to `chain`."""
    name = converter_name(module)
    if name is None:
        raise by_hand.unreadable(module, chain)
    _refresh(module, chain)
    CONVERTERS[name](module, chain)


def dtype_of(module: Any) -> str:
    """float32 or float64."""
    kinds = [str(one.dtype).removeprefix("torch.") for one in module.parameters()]
    for kind in kinds:
        if kind not in ("float32", "float64"):
            raise ValueError(f"from_torch: got a module of {kind}, expected float32 or float64; write module.float()")
        if kind != kinds[0]:
            raise ValueError(f"from_torch: got parameters of {kinds[0]} and {kind}, expected one; write module.float()")
    return kinds[0] if kinds else "float32"


def _refresh(module: Any, chain: Chain) -> None:
    """Compute the weights that torch computes before each call (WeightNorm); other hooks are refused, as code."""
    for hook in module._forward_pre_hooks.values():
        if type(hook).__name__ != "WeightNorm":
            raise chain.refused(module, f"got a forward pre-hook, {hook!r}, expected none", "remove it")
        hook(module, ())
    if module._forward_hooks:
        raise chain.refused(module, "got a forward hook, expected none", "remove it")


def is_own(module: Any, cls: type) -> bool:
    """Whether a module computes the same as `cls` of torch.nn: its forward is that class's."""
    return cls.__module__.startswith("torch.nn.") and _forward(type(module)) is _forward(cls)


def _forward(cls: type) -> Any:
    return inspect.getattr_static(cls, "forward", None)  # that of a scripted module's class raises when it is read
