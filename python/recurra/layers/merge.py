"""Several values become one: sums, products, extremes, and features side by side; and time turned round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array
from recurra.layers.native import NativeLayerOfAnySize
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt

    from recurra.graph.symbolic import Symbol


class _Plain(NativeLayerOfAnySize):
    """A native layer without settings."""

    _kind: type[Any]

    def __init__(self, *, dtype: npt.DTypeLike = "float32") -> None:
        super().__init__(self._kind(dtype=checks.dtype_name(type(self).__name__, dtype)), None)


class _Merge(_Plain):
    num_inputs = 0
    joins = True

    def check_other(self, index: int, first: Symbol, other: Symbol) -> None:
        """Sequences go with sequences, vectors with vectors."""
        if other.sequence != first.sequence:
            words = {True: "a sequence", False: "a vector"}
            raise ValueError(
                f"{self.label}: got {words[first.sequence]} as x[0] and {words[other.sequence]} as x[{index}], expected the "
                f"same; make both with a time axis, or both without"
            )


class _Elementwise(_Merge):
    def joined_features(self, features: Sequence[int | None]) -> int | None:
        """As each of the inputs."""
        known = [one for one in features if one is not None]
        if len(set(known)) > 1:
            raise ValueError(
                f"{self.label}: got {' and '.join(map(str, features))} features, expected the same of all; "
                f"change the layers before, or put a Linear between"
            )
        return known[0] if known else None


@built_in
class Add(_Elementwise):
    """y = x_1 + ... + x_n, at every step: `y, _ = add((x_1, x_2))`, or `a + b` in a model.

    All are (N, T, features) with the same lengths, or all (N, features).

    Args:
        dtype: float32 or float64.
    """

    _kind = _core.Add


@built_in
class Multiply(_Elementwise):
    """y = x_1 * ... * x_n, element by element: `y, _ = multiply((x_1, x_2))`, or `a * b` in a model.

    All are (N, T, features) with the same lengths, or all (N, features).

    Args:
        dtype: float32 or float64.
    """

    _kind = _core.Multiply


@built_in
class Subtract(_Elementwise):
    """y = x_1 - x_2, element by element: `y, _ = subtract((x_1, x_2))`, or `a - b` in a model.

    Both are (N, T, features) with the same lengths, or both (N, features).

    Args:
        dtype: float32 or float64.
    """

    _kind = _core.Subtract
    num_inputs = 2


@built_in
class Average(_Elementwise):
    """y = (x_1 + ... + x_n) / n, element by element: `y, _ = average((x_1, x_2))`.

    All are (N, T, features) with the same lengths, or all (N, features).

    Args:
        dtype: float32 or float64.
    """

    _kind = _core.Average


@built_in
class Maximum(_Elementwise):
    """The largest of the inputs, element by element: `y, _ = maximum((x_1, x_2))`. NaN is larger than any number.

    All are (N, T, features) with the same lengths, or all (N, features). The gradient goes to the first input that has the
    largest value.

    Args:
        dtype: float32 or float64.
    """

    _kind = _core.Maximum


@built_in
class Minimum(_Elementwise):
    """The smallest of the inputs, element by element: `y, _ = minimum((x_1, x_2))`. NaN is smaller than any number.

    All are (N, T, features) with the same lengths, or all (N, features). The gradient goes to the first input that has the
    smallest value.

    Args:
        dtype: float32 or float64.
    """

    _kind = _core.Minimum


@built_in
class Dot(_Elementwise):
    """y = x_1 . x_2, the sum of the products of their features: `y, _ = dot((x_1, x_2))`, (N, T, 1) or (N, 1).

    Both are (N, T, features) with the same lengths, or both (N, features). Of two vectors it is Keras' Dot(axes=-1).

    Args:
        dtype: float32 or float64.
    """

    _kind = _core.Dot
    num_inputs = 2

    def joined_features(self, features: Sequence[int | None]) -> int:
        """One."""
        super().joined_features(features)
        return 1


@built_in
class Concatenate(_Merge):
    """The features of all inputs side by side: `y, _ = concatenate((x_1, x_2))`.

    x_k (N, T, F_k) with the same lengths, or all (N, F_k); y has F_1 + ... + F_n features.

    Args:
        dtype: float32 or float64.
    """

    _kind = _core.Concatenate

    def joined_features(self, features: Sequence[int | None]) -> int | None:
        """Those of all inputs."""
        known = [one for one in features if one is not None]
        return sum(known) if len(known) == len(features) else None


@built_in
class Reverse(_Plain):
    """The valid steps of each row, the last one first: (N, T, features) to the same shape; padding stays behind.

    Args:
        dtype: float32 or float64.
    """

    _kind = _core.Reverse
    needs_sequences = True

    def output_reset(self, reset: Array | None, lengths: Array | None) -> Array | None:
        """An episode that starts at step t of n parts t - 1 from t: in the output, it is step n - t that follows."""
        if reset is None:
            return None
        reset = np.asarray(reset)
        valid = np.full(len(reset), reset.shape[1]) if lengths is None else lengths
        turned = np.zeros_like(reset)
        for row, steps in enumerate(valid):
            turned[row, 1:steps] = reset[row, 1:steps][::-1]
        return turned

    def why_not_streamable(self) -> str:
        """It begins at the end."""
        return "turns sequences round and needs their ends first; call the model on whole sequences"
