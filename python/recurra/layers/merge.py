"""Layers that merge values: sums, products, extremes, concatenated features; and time reversal."""

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
    """A native layer whose only option is the dtype."""

    _kind: type[Any]

    def __init__(self, *, dtype: npt.DTypeLike = "float32") -> None:
        super().__init__(self._kind(dtype=checks.dtype_name(type(self).__name__, dtype)), None)


class _Merge(_Plain):
    num_inputs = 0
    joins = True

    def check_other(self, index: int, first: Symbol, other: Symbol) -> None:
        """Raise unless both are sequences or both are vectors."""
        if other.sequence != first.sequence:
            words = {True: "a sequence", False: "a vector"}
            raise ValueError(
                f"{self.label}: got {words[first.sequence]} as x[0] and {words[other.sequence]} as x[{index}], "
                "expected the same; make both with a time axis, or both without"
            )


class _Elementwise(_Merge):
    def joined_features(self, features: Sequence[int | None]) -> int | None:
        """The common number of features."""
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

    Example:
        >>> a, b = np.full((1, 2, 1), 3.0, np.float32), np.full((1, 2, 1), 2.0, np.float32)
        >>> rc.Add()((a, b))[0].ravel().tolist()
        [5.0, 5.0]
    """

    _kind = _core.Add


@built_in
class Multiply(_Elementwise):
    """y = x_1 * ... * x_n, elementwise: `y, _ = multiply((x_1, x_2))`, or `a * b` in a model.

    All are (N, T, features) with the same lengths, or all (N, features).

    Args:
        dtype: float32 or float64.

    Example:
        >>> a, b = np.full((1, 2, 1), 3.0, np.float32), np.full((1, 2, 1), 2.0, np.float32)
        >>> rc.Multiply()((a, b))[0].ravel().tolist()
        [6.0, 6.0]
    """

    _kind = _core.Multiply


@built_in
class Subtract(_Elementwise):
    """y = x_1 - x_2, elementwise: `y, _ = subtract((x_1, x_2))`, or `a - b` in a model.

    Both are (N, T, features) with the same lengths, or both (N, features).

    Args:
        dtype: float32 or float64.

    Example:
        >>> a, b = np.full((1, 2, 1), 3.0, np.float32), np.full((1, 2, 1), 2.0, np.float32)
        >>> rc.Subtract()((a, b))[0].ravel().tolist()
        [1.0, 1.0]
    """

    _kind = _core.Subtract
    num_inputs = 2


@built_in
class Average(_Elementwise):
    """y = (x_1 + ... + x_n) / n, elementwise: `y, _ = average((x_1, x_2))`.

    All are (N, T, features) with the same lengths, or all (N, features).

    Args:
        dtype: float32 or float64.

    Example:
        >>> a, b = np.full((1, 2, 1), 3.0, np.float32), np.full((1, 2, 1), 2.0, np.float32)
        >>> rc.Average()((a, b))[0].ravel().tolist()
        [2.5, 2.5]
    """

    _kind = _core.Average


@built_in
class Maximum(_Elementwise):
    """The largest of the inputs, elementwise: `y, _ = maximum((x_1, x_2))`. NaN is larger than any number.

    All are (N, T, features) with the same lengths, or all (N, features). The gradient goes to the first input that
    attains the maximum.

    Args:
        dtype: float32 or float64.

    Example:
        >>> a, b = np.full((1, 2, 1), 3.0, np.float32), np.full((1, 2, 1), 2.0, np.float32)
        >>> rc.Maximum()((a, b))[0].ravel().tolist()
        [3.0, 3.0]
    """

    _kind = _core.Maximum


@built_in
class Minimum(_Elementwise):
    """The smallest of the inputs, elementwise: `y, _ = minimum((x_1, x_2))`. NaN is smaller than any number.

    All are (N, T, features) with the same lengths, or all (N, features). The gradient goes to the first input that
    attains the minimum.

    Args:
        dtype: float32 or float64.

    Example:
        >>> a, b = np.full((1, 2, 1), 3.0, np.float32), np.full((1, 2, 1), 2.0, np.float32)
        >>> rc.Minimum()((a, b))[0].ravel().tolist()
        [2.0, 2.0]
    """

    _kind = _core.Minimum


@built_in
class Dot(_Elementwise):
    """y = x_1 . x_2, the dot product of their features: `y, _ = dot((x_1, x_2))`, (N, T, 1) or (N, 1).

    Both are (N, T, features) with the same lengths, or both (N, features). For vectors, it is Keras' Dot(axes=-1).

    Args:
        dtype: float32 or float64.

    Example:
        >>> a, b = np.full((1, 2, 4), 3.0, np.float32), np.full((1, 2, 4), 2.0, np.float32)
        >>> rc.Dot()((a, b))[0].ravel().tolist()
        [24.0, 24.0]
    """

    _kind = _core.Dot
    num_inputs = 2

    def joined_features(self, features: Sequence[int | None]) -> int:
        """1."""
        super().joined_features(features)
        return 1


@built_in
class Concatenate(_Merge):
    """Concatenates the features of all inputs: `y, _ = concatenate((x_1, x_2))`.

    x_k (N, T, F_k) with the same lengths, or all (N, F_k); y has F_1 + ... + F_n features.

    Args:
        dtype: float32 or float64.

    Example:
        >>> a, b = np.ones((2, 5, 3), np.float32), np.ones((2, 5, 4), np.float32)
        >>> rc.Concatenate()((a, b))[0].shape
        (2, 5, 7)
    """

    _kind = _core.Concatenate

    def joined_features(self, features: Sequence[int | None]) -> int | None:
        """The sum of the inputs' features."""
        known = [one for one in features if one is not None]
        return sum(known) if len(known) == len(features) else None


@built_in
class Reverse(_Plain):
    """Reverses the valid steps of each row: (N, T, features) to the same shape; padding stays at the end.

    Args:
        dtype: float32 or float64.

    Example:
        >>> x = np.array([[[1.0], [2.0], [3.0]]], np.float32)
        >>> rc.Reverse()(x, lengths=[2])[0].ravel().tolist()
        [2.0, 1.0, 0.0]
    """

    _kind = _core.Reverse
    needs_sequences = True

    def output_reset(self, reset: Array | None, lengths: Array | None) -> Array | None:
        """The reversed `reset`: a boundary between steps t - 1 and t of n is one before step n - t of the output."""
        if reset is None:
            return None
        reset = np.asarray(reset)
        valid = np.full(len(reset), reset.shape[1]) if lengths is None else lengths
        turned = np.zeros_like(reset)
        for row, steps in enumerate(valid):
            turned[row, 1:steps] = reset[row, 1:steps][::-1]
        return turned

    def why_not_streamable(self) -> str:
        """Never streams: the first output is the last step."""
        return "reverses sequences and needs their ends first; call the model on whole sequences"
