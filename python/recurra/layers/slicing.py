"""Layers that select or reorder features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recurra import _core
from recurra.common import checks
from recurra.layers.native import NativeLayer, NativeLayerOfAnySize
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


@built_in
class Slice(NativeLayerOfAnySize):
    """Selects the features start:stop:step of each step; in a model also written x[..., start:stop:step].

    `y, _ = layer(x)`: x (N, T, features) or (N, features), with at least `stop` features; y has the slice's.

    Args:
        start, stop, step: as in Python, but not negative. In a model, where the features are known, `x[..., -4:]` works
            too.
        dtype: float32 or float64.

    Example:
        >>> y, _ = rc.Slice(0, 2)(np.ones((2, 5, 3), np.float32))
        >>> y.shape
        (2, 5, 2)
    """

    def __init__(self, start: int, stop: int, step: int = 1, *, dtype: npt.DTypeLike = "float32") -> None:
        self.start = checks.integer("Slice", "start", start, 0)
        self.stop = checks.integer("Slice", "stop", stop, 0)
        self.step = checks.integer("Slice", "step", step)
        if self.stop <= self.start:
            raise ValueError(
                f"Slice: got features {self.start}:{self.stop}, expected at least one; make stop larger than start"
            )
        name = checks.dtype_name("Slice", dtype)
        super().__init__(_core.Slice(self.start, self.stop, self.step, dtype=name), None)

    @property
    def output_size(self) -> int:  # type: ignore[override]
        """The number of selected features."""
        return len(range(self.start, self.stop, self.step))

    def output_features(self, features: int | None) -> int:
        """The number of selected features; raises if the input has too few."""
        if features is not None and features < self.stop:
            raise ValueError(
                f"Slice: got {features} features, expected at least {self.stop}, where the slice ends; lower stop"
            )
        return self.output_size


@built_in
class Permute(NativeLayer):
    """Reorders each step's features as an array of `shape` whose axes are permuted, as torch.permute and Keras'
    Permute.

    Images of Conv2d have their channels last, while a PyTorch layer behind a flattened (C, H) has learnt from channels
    first:

        columns = rc.Permute((16, 64), (1, 0))  # [row][channel] of 16 rows and 64 channels to [channel][row]

    `y, _ = permute(x)`: x and y (N, T, features) or (N, features), features the product of `shape`. A reshape of the
    features alone needs no layer, as they are flat.

    Args:
        shape: the axes of a step's features.
        dims: for each axis of the output, that of the input.
        dtype: float32 or float64.

    Example:
        >>> x = np.arange(6, dtype=np.float32)[None]
        >>> rc.Permute((2, 3), (1, 0))(x)[0].tolist()
        [[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]]
    """

    def __init__(self, shape: Sequence[int], dims: Sequence[int], *, dtype: npt.DTypeLike = "float32") -> None:
        self.shape = tuple(checks.integer("Permute", "shape", size) for size in _sizes("shape", shape))
        self.dims = tuple(checks.integer("Permute", "dims", axis, 0) for axis in _sizes("dims", dims))
        if sorted(self.dims) != list(range(len(self.shape))):
            raise ValueError(
                f"Permute: got dims={self.dims} for shape={self.shape}, expected each axis from 0 to "
                f"{len(self.shape) - 1} once; change dims"
            )
        name = checks.dtype_name("Permute", dtype)
        super().__init__(_core.Permute(self.shape, self.dims, dtype=name), None)

    @property
    def input_size(self) -> int:
        """The product of shape."""
        return math.prod(self.shape)

    @property
    def output_size(self) -> int:
        """The product of shape."""
        return math.prod(self.shape)

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """0: there are no parameters."""
        return 0


def _sizes(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= 8:
        raise ValueError(f"Permute: got {name}={value!r:.80}, expected a tuple of 1 to 8 numbers; write {name}=(1, 0)")
    return value
