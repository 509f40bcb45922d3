"""Gradients of functions that use PyTorch's or JAX's operations; both are optional, and imported only where used."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from traceback import walk_tb
from typing import Any, TypeAlias

import numpy as np

from recurra.common.typing import Array

#: The mean and the gradient of a function, whose name in messages comes second, at predictions and targets.
Differentiator: TypeAlias = "Callable[[Callable[[Any, Any], Any], str, Array, Array], tuple[float, Array]]"


def candidates(result: Any) -> list[Differentiator]:
    """What may differentiate a function that returned `result` for arrays, None if it failed."""
    if _home(type(result)) in ("jax", "jaxlib"):
        return [of_jax]
    return [by for name, by in (("torch", of_torch), ("jax", of_jax)) if importlib.util.find_spec(name) is not None]


def shows_torch(result: Any, failed: Exception | None) -> bool:
    """Whether what a function did with arrays, its result or error, shows that it is written in PyTorch's
    operations."""
    if failed is None:
        return _home(type(result)) == "torch"
    if isinstance(failed, AttributeError) and isinstance(failed.obj, np.ndarray):
        import torch

        return hasattr(torch.Tensor, failed.name or "")
    *_, (frame, _) = walk_tb(failed.__traceback__)
    return "Tensor" in str(failed) or frame.f_globals.get("__name__", "").partition(".")[0] == "torch"


def is_torchs(function: Any) -> bool:
    """Whether the function is PyTorch's own, or a module of its layers."""
    return any(_home(one) == "torch" for one in (*type(function).__mro__, function))


def _home(thing: Any) -> str:
    return (getattr(thing, "__module__", None) or "").partition(".")[0]


def of_torch(function: Callable[[Any, Any], Any], name: str, predictions: Array, targets: Array) -> tuple[float, Array]:
    """By PyTorch's autograd."""
    import torch

    leaf = torch.tensor(predictions, requires_grad=True)
    value = function(leaf, torch.tensor(targets))
    if isinstance(value, torch.Tensor) and value.numel() > 1:
        raise TypeError(
            f"Function: got one value per element, of shape {tuple(value.shape)}, from {name}, expected their mean; "
            "write .mean() at its end, or reduction='mean'"
        )
    if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
        raise TypeError(
            f"Function: got {value!r:.100} from {name}, expected the mean as a tensor of one number that depends on "
            f"the "
            "prediction; use PyTorch operations only, or return mean and gradient as arrays"
        )
    (gradient,) = torch.autograd.grad(value.reshape(()), leaf)
    return value.item(), gradient.numpy()


def of_jax(function: Callable[[Any, Any], Any], name: str, predictions: Array, targets: Array) -> tuple[float, Array]:
    """By JAX, in the predictions' dtype."""
    import jax

    if predictions.dtype == np.float64:
        context = jax.enable_x64(True) if hasattr(jax, "enable_x64") else _enable_x64()
    else:
        context = nullcontext()
    with context:
        targets = jax.numpy.asarray(targets)

        def mean(prediction: Any) -> Any:
            value = function(prediction, targets)
            if not isinstance(value, jax.Array) or value.size != 1:
                raise TypeError(
                    f"Function: got {value!r:.100} from {name}, expected the mean as an array of one number; use JAX "
                    "operations only, or return mean and gradient as arrays"
                )
            return value.reshape(())

        value, gradient = jax.value_and_grad(mean)(jax.numpy.asarray(predictions))
        return float(value), np.asarray(gradient)


def _enable_x64() -> Any:
    from jax.experimental import enable_x64  # where JAX is older than 0.8

    return enable_x64()
