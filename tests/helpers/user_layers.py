"""Layers as users write them, importable so that they can be pickled."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

import recurra as rc

Array = npt.NDArray[Any]


class Scale(rc.PythonLayer):
    """A factor for every feature."""

    stateless = True

    def __init__(self, size: int, dtype: str = "float32") -> None:
        self.size = size
        self.add_parameter("scale", np.linspace(0.5, 1.5, size).astype(dtype))

    def forward(
        self, x: Array, *, lengths: Array | None, training: bool, rng: np.random.Generator
    ) -> tuple[Array, Any]:
        return x * self.params["scale"], x

    def backward(self, dy: Array, saved: Array) -> Array:
        self.grads["scale"] += (dy * saved).sum(axis=(0, 1))
        return dy * self.params["scale"]

    def config(self) -> dict[str, Any]:
        return {"size": self.size, "dtype": str(self.params["scale"].dtype)}


class Softsign(rc.PythonLayer):
    """No parameters: x / (1 + |x|)."""

    stateless = True

    def forward(
        self, x: Array, *, lengths: Array | None, training: bool, rng: np.random.Generator
    ) -> tuple[Array, Any]:
        return x / (1 + np.abs(x)), x

    def backward(self, dy: Array, saved: Array) -> Array:
        dx: Array = dy / (1 + np.abs(saved)) ** 2
        return dx


class Mean(rc.PythonLayer):
    """The mean over the valid steps: an output without time axis, which needs lengths."""

    return_sequences = False

    def forward(
        self, x: Array, *, lengths: Array | None, training: bool, rng: np.random.Generator
    ) -> tuple[Array, Any]:
        steps = np.full(len(x), x.shape[1]) if lengths is None else lengths
        share = (1 / np.maximum(steps, 1)).astype(x.dtype)[:, None]
        return x.sum(axis=1) * share, (share, x.shape)

    def backward(self, dy: Array, saved: Any) -> Array:
        share, shape = saved
        dx: Array = np.broadcast_to((dy * share)[:, None], shape).copy()
        return dx


class Noise(rc.PythonLayer):
    """Noise in training, from the call's seed."""

    def forward(
        self, x: Array, *, lengths: Array | None, training: bool, rng: np.random.Generator
    ) -> tuple[Array, Any]:
        return (x + rng.standard_normal(x.shape).astype(x.dtype) if training else x), None

    def backward(self, dy: Array, saved: Any) -> Array:
        return dy


class Failing(rc.PythonLayer):
    """Raises on request."""

    stateless = True

    def __init__(self, where: str = "backward") -> None:
        self.where = where

    def forward(
        self, x: Array, *, lengths: Array | None, training: bool, rng: np.random.Generator
    ) -> tuple[Array, Any]:
        if self.where == "forward":
            raise RuntimeError("the user's own error")
        return x, None

    def backward(self, dy: Array, saved: Any) -> Array:
        raise RuntimeError("the user's own error")


class Gate(rc.PythonLayer):
    """Passes x on when it is let to, and raises where a value is beyond 1000."""

    stateless = True

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()

    def forward(
        self, x: Array, *, lengths: Array | None, training: bool, rng: np.random.Generator
    ) -> tuple[Array, Any]:
        self.entered.set()
        self.opened.wait(20)
        if (np.abs(x) > 1000).any():
            raise OverflowError("the user's own error")
        return x, None

    def backward(self, dy: Array, saved: Any) -> Array:
        return dy
