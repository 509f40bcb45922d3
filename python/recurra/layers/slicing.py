"""A layer that selects features."""

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
