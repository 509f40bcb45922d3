"""Linear, Embedding and Dropout."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recurra import _core
from recurra.common import checks
from recurra.common.initialise import normal, uniform
from recurra.common.typing import Array
from recurra.layers.native import NativeLayer, NativeLayerOfAnySize
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@built_in
class Linear(NativeLayer):
    """y = W x + b at every step.

    `y, _ = linear(x)`: x (N, T, in_features) or (N, in_features), y of the same shape with out_features.
    Parameters: weight (out_features, in_features), bias (out_features).

    Args:
        in_features, out_features: sizes.
        bias: whether to add b.
        dtype: float32 or float64.
        seed: for the parameters, drawn from U(-1/sqrt(in_features), 1/sqrt(in_features)); None for a fresh seed.

    Example:
        >>> y, _ = rc.Linear(3, 8)(np.ones((2, 5, 3), np.float32))
        >>> y.shape
        (2, 5, 8)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.in_features = checks.integer("Linear", "in_features", in_features)
        self.out_features = checks.integer("Linear", "out_features", out_features)
        self.bias = checks.flag("Linear", "bias", bias)
        name = checks.dtype_name("Linear", dtype)
        super().__init__(_core.Dense(self.in_features, self.out_features, bias=self.bias, dtype=name), seed)

    @property
    def input_size(self) -> int:
        """in_features."""
        return self.in_features

    @property
    def output_size(self) -> int:
        """out_features."""
        return self.out_features

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Weights and biases."""
        inputs, outputs = (operator.index(config[name]) for name in ("in_features", "out_features"))
        return outputs * (inputs + (1 if config["bias"] else 0))

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return uniform(rng, shape, self.in_features)


@built_in
class Embedding(NativeLayer):
    """A learnt vector for each of num_embeddings tokens.

    `y, _ = embedding(tokens)`: tokens (N, T), integers from 0 to num_embeddings - 1; y (N, T, embedding_dim).
    Parameter: weight (num_embeddings, embedding_dim).

    Args:
        num_embeddings, embedding_dim: sizes.
        sparse: whether `zero_grad`, clipping and the optimiser's step visit only the rows that have a gradient, so that
            a step's time does not grow with num_embeddings. For SGD without momentum, Adagrad and SparseAdam; weight
            decay must exclude the layer. `grads["weight"]` is then read-only; `grads["weight"] = array` writes it.
        dtype: float32 or float64.
        seed: for the parameters, drawn from N(0, 1); None for a fresh seed.

    Example:
        >>> y, _ = rc.Embedding(100, 8)(np.array([[1, 7, 99]]))
        >>> y.shape
        (1, 3, 8)
    """

    input_kind = "tokens"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        sparse: bool = False,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.num_embeddings = checks.integer("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = checks.integer("Embedding", "embedding_dim", embedding_dim)
        self.sparse = checks.flag("Embedding", "sparse", sparse)
        name = checks.dtype_name("Embedding", dtype)
        sizes = (self.num_embeddings, self.embedding_dim)
        super().__init__(_core.Embedding(*sizes, sparse=self.sparse, dtype=name), seed)

    @property
    def grad_rows(self) -> Array | None:
        """The rows of weight with a gradient since `zero_grad`, ascending; None unless sparse."""
        return self.grads.grad_rows("weight")

    @property
    def input_size(self) -> int:
        """num_embeddings."""
        return self.num_embeddings

    @property
    def output_size(self) -> int:
        """embedding_dim."""
        return self.embedding_dim

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Weights."""
        return operator.index(config["num_embeddings"]) * operator.index(config["embedding_dim"])

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return normal(rng, shape)


@built_in
class Dropout(NativeLayerOfAnySize):
    """In training, zeroes each value with probability p and scales the others by 1 / (1 - p) (Srivastava et al. 2014).

    `y, _ = dropout(x)`: any number of features. The identity in inference.

    Args:
        p: probability of zeroing a value, from 0 to 1.
        dtype: float32 or float64.

    Example:
        >>> model = rc.Sequential(rc.LSTM(3, 8), rc.Dropout(0.3), rc.Linear(8, 2))
    """

    _always_shown = ("p",)

    def __init__(self, p: float = 0.5, *, dtype: npt.DTypeLike = "float32") -> None:
        self.p = checks.number("Dropout", "p", p, 0.0, 1.0)
        super().__init__(_core.Dropout(self.p, dtype=checks.dtype_name("Dropout", dtype)), None)
