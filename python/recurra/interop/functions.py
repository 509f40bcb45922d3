"""Elementwise functions that are not activations of the library, composed of those that are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recurra.layers.activation import NAMES, Activation
from recurra.layers.normalisation import BatchNorm


class Functions:
    """Elementwise functions of symbols of one dtype. Constants are held by frozen batch norms."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype

    def plain(self, name: str, x: Any) -> Any:
        """The activation layer `name`."""
        return Activation(name, dtype=self._dtype)(x)

    def affine(self, x: Any, scale: Any = 1.0, shift: Any = 0.0) -> Any:
        """scale * x + shift, with numbers or one value for each feature."""
        norm = BatchNorm(x.features, eps=1e-30, dtype=self._dtype)
        values = {"weight": scale, "bias": shift, "running_mean": 0.0, "running_var": 1.0}
        norm.load_state_dict({name: np.full(x.features, value, self._dtype) for name, value in values.items()})
        norm.trainable = False
        return norm(x)

    def below(self, x: Any, bound: float) -> Any:
        """min(x, bound)."""
        return self.affine(self.plain("relu", self.affine(x, -1.0, bound)), -1.0, bound)

    def leaky_relu(self, x: Any, slope: float) -> Any:
        """x where x > 0, else slope * x."""
        return self.affine(self.plain("relu", x), 1.0 - slope) + self.affine(x, slope)

    def elu(self, x: Any, alpha: float) -> Any:
        """x where x > 0, else alpha * (e^x - 1)."""
        return self.affine(self.plain("relu", x), 1.0 - alpha) + self.affine(self.plain("elu", x), alpha)

    def clipped_relu(self, x: Any, bound: float) -> Any:
        """min(max(x, 0), bound)."""
        return self.below(self.plain("relu", x), bound)

    def hard_sigmoid(self, x: Any, scale: float) -> Any:
        """min(max(scale * x + 1/2, 0), 1)."""
        if scale == 1.0 / 6.0:
            return self.plain("hard_sigmoid", x)
        return self.clipped_relu(self.affine(x, scale, 0.5), 1.0)

    def named(self, name: str) -> Callable[[Any], Any] | None:
        """The function called `name`; None if there is none."""
        if name in NAMES:
            return lambda x: self.plain(name, x)
        found: dict[str, Callable[[Any], Any]] = {
            "linear": lambda x: x,
            "exponential": lambda x: self.plain("exp", x),
            "log_softmax": lambda x: self.plain("log", self.plain("softmax", x)),
            "log_sigmoid": lambda x: self.affine(self.plain("softplus", self.affine(x, -1.0)), -1.0),
            "tanh_shrink": lambda x: x - self.plain("tanh", x),
            "gelu_tanh": self._gelu_tanh,
        }
        return found.get(name)

    def _gelu_tanh(self, x: Any) -> Any:
        inner = self.affine(x, 0.7978845608028654) + self.affine(x * self.plain("square", x), 0.035677408136300125)
        return self.affine(x, 0.5) * self.affine(self.plain("tanh", inner), 1.0, 1.0)
