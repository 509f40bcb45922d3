"""Layers that reduce a sequence to a vector."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recurra import _core
from recurra.common import checks
from recurra.common.initialise import uniform
from recurra.common.typing import Array, Lengths
from recurra.layers.native import NativeLayer, NativeLayerOfAnySize
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_WHY_NOT = "gives one output for a whole sequence; stream the layers before it, and pool their outputs"


@built_in
class Pool(NativeLayerOfAnySize):
    """The last valid step of a sequence, or the mean or maximum over its valid steps.

    `y, _ = pool(x)`: x (N, T, features), with any number of features, y (N, features). A row without steps gives 0.
    With reset, only each row's last episode is pooled. The gradient of a maximum goes to the first step that attains
    it.

    Args:
        mode: "last", "mean" or "max".
        dtype: float32 or float64.

    Example:
        >>> x = np.array([[[1.0], [3.0], [0.0]]], np.float32)
        >>> rc.Pool("mean")(x, lengths=[2])[0].tolist()
        [[2.0]]
    """

    needs_sequences = True
    return_sequences = False

    def __init__(self, mode: str, *, dtype: npt.DTypeLike = "float32") -> None:
        self.mode: str = checks.choice("Pool", "mode", mode, ("last", "mean", "max"))
        super().__init__(_core.Pool(self.mode, dtype=checks.dtype_name("Pool", dtype)), None)

    def why_not_streamable(self) -> str:
        """Never streams: pooling needs the whole sequence."""
        return _WHY_NOT


@built_in
class AttentionPool(NativeLayer):
    """The mean of a sequence's valid steps, weighted by learnt self-attention (Yang et al. 2016; Lin et al. 2017).

    y = sum over t of a[t] x[t], a = softmax over t of context . tanh(weight x[t] + bias).
    `y, _ = pool(x)`: x (N, T, features), y (N, features). A row without steps gives 0. With reset, only each row's last
    episode is pooled.
    Parameters: weight (hidden_size, features), bias (hidden_size), context (hidden_size).

    Args:
        features: features of x.
        hidden_size: units of the tanh layer; None for `features`.
        dtype: float32 or float64.
        seed: for the parameters, drawn from U(-1/sqrt(features), 1/sqrt(features)); None for a fresh seed.

    Example:
        >>> pool = rc.AttentionPool(3)
        >>> x = np.ones((2, 5, 3), np.float32)
        >>> pool(x, lengths=[5, 2])[0].shape, pool.weights(x, lengths=[5, 2]).shape
        ((2, 3), (2, 5))
    """

    needs_sequences = True
    return_sequences = False

    def __init__(
        self,
        features: int,
        hidden_size: int | None = None,
        *,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.features = checks.integer("AttentionPool", "features", features)
        given = self.features if hidden_size is None else hidden_size
        self.hidden_size = checks.integer("AttentionPool", "hidden_size", given)
        name = checks.dtype_name("AttentionPool", dtype)
        self._native = _core.AttentionPool(self.features, self.hidden_size, dtype=name)
        super().__init__(self._native, seed)

    @property
    def input_size(self) -> int:
        """Features."""
        return self.features

    @property
    def output_size(self) -> int:
        """Features."""
        return self.features

    def weights(self, x: npt.ArrayLike, lengths: Lengths = None) -> Array:
        """The attention weights of x (N, T, features): (N, T), 0 past the lengths; each row sums to 1."""
        valid = None if lengths is None else checks.lengths("AttentionPool.weights", lengths)
        return self._native.weights(checks.array("AttentionPool.weights", "x", x), valid)

    def why_not_streamable(self) -> str:
        """Never streams: pooling needs the whole sequence."""
        return _WHY_NOT

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Weights, biases and context."""
        features, hidden = (operator.index(config[name]) for name in ("features", "hidden_size"))
        return hidden * (features + 2)

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return uniform(rng, shape, self.features)
