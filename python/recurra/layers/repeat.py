"""Layers that give vectors: a vector repeated as a sequence, and a learnt vector."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.initialise import uniform
from recurra.common.typing import Array
from recurra.layers.native import NativeLayer, NativeLayerOfAnySize
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


@built_in
class RepeatVector(NativeLayerOfAnySize):
    """Repeats a vector for n steps (Keras' RepeatVector), as between the encoder and the decoder of an autoencoder.

    `y, _ = repeat(x)`: x (N, features), y (N, n, features). All n steps of each row are valid, whatever the lengths of
    the sequences that the vectors came from.

    Args:
        n: steps of the output.
        dtype: float32 or float64.

    Example:
        >>> y, _ = rc.RepeatVector(5)(np.ones((2, 3), np.float32))
        >>> y.shape
        (2, 5, 3)
    """

    def __init__(self, n: int, *, dtype: npt.DTypeLike = "float32") -> None:
        self.n = self.made_steps = checks.integer("RepeatVector", "n", n)
        super().__init__(_core.RepeatVector(self.n, dtype=checks.dtype_name("RepeatVector", dtype)), None)

    def output_reset(self, reset: Array | None, lengths: Array | None) -> None:
        """None: no episode starts within the repeated steps."""

    def why_not_streamable(self) -> str:
        """Never streams: one input gives many steps."""
        return "makes a whole sequence of each vector; call the model on whole sequences"


@built_in
class LearntVector(NativeLayer):
    """A parameter as a value in a model, the same for every row: a learnt initial state, or an attention's query.

        h = rc.GRU(8, 32)(x, state=rc.LearntVector(32)(x))
        z = rc.MultiplicativeAttention(32, 32)((rc.LearntVector(32, init="uniform")(x), h))

    `y, _ = vector(x)`: x (N, T, any number of features) or (N, features), of which only N is used; y (N, features).
    Parameter: value (features).

    Args:
        features: size of the vector.
        init: "zeros", or "uniform": drawn from U(-1/sqrt(features), 1/sqrt(features)).
        dtype: float32 or float64.
        seed: for the parameter; None for a fresh seed.

    Example:
        >>> x = rc.Input(features=3)
        >>> model = rc.Model(x, rc.GRU(3, 8)(x, state=rc.LearntVector(8)(x)))
        >>> model(np.ones((2, 5, 3), np.float32))[0].shape
        (2, 5, 8)
    """

    return_sequences = False

    def __init__(
        self, features: int, *, init: str = "zeros", dtype: npt.DTypeLike = "float32", seed: int | None = None
    ) -> None:
        self.features = checks.integer("LearntVector", "features", features)
        self.init: str = checks.choice("LearntVector", "init", init, ("zeros", "uniform"))
        super().__init__(_core.LearntVector(self.features, dtype=checks.dtype_name("LearntVector", dtype)), seed)

    @property
    def input_size(self) -> None:
        """None: any number of features."""
        return None

    @property
    def output_size(self) -> int:
        """Features of the vector."""
        return self.features

    def why_not_streamable(self) -> str:
        """Never streams: the vector belongs to a whole sequence."""
        return "gives one vector for a whole sequence; call the model on whole sequences"

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """The number of features."""
        return operator.index(config["features"])

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return np.zeros(shape) if self.init == "zeros" else uniform(rng, shape, self.features)
