"""Some of the features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recurra import _core
from recurra.common import checks
from recurra.layers.native import NativeLayerOfAnySize
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


@built_in
class Slice(NativeLayerOfAnySize):
    """Features start, start + step, ... below stop of every step: x[..., start:stop:step], as a symbol in a model is
    written.

    `y, _ = layer(x)`: x (N, T, features) or (N, features), at least `stop` features; y has as many as the slice.

    Args:
        start, stop, step: as in Python, but not negative. In a model `x[..., -4:]` works, too, as the features are known.
        dtype: float32 or float64.
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
        """As many as the slice has."""
        return len(range(self.start, self.stop, self.step))

    def output_features(self, features: int | None) -> int:
        """The same, if the input has that many."""
        if features is not None and features < self.stop:
            raise ValueError(
                f"Slice: got {features} features, expected at least {self.stop}, where the slice ends; lower stop"
            )
        return self.output_size
