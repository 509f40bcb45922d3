"""Pooling over windows of steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.common.docstrings import with_inherited_arguments
from recurra.common.typing import Array
from recurra.layers.windows import Windowed
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


class WindowPool(Windowed):
    """The base of MaxPool1d and AvgPool1d.

    `y, state = pool(x)`: x (N, T, features), y (N, T', features). The padding determines where the window of
    kernel_size steps lies and how many output steps T input steps give, as in `Conv1d`:

    - "valid": whole windows only, (T - kernel_size) // stride + 1 steps, none where T < kernel_size.
    - "same": window t is centred at x[t * stride], (kernel_size - 1) // 2 steps before it; ceil(T / stride) steps.
    - "causal": window t ends at x[t * stride]; ceil(T / stride) steps.

    A window pools only the steps within the row and, with reset, within the episode (Keras' "same", PyTorch's
    count_include_pad=False). With lengths, each row has an output of its own length. Reset needs an output for every
    input step, that is stride 1 and not "valid".

    A causal layer of stride 1 with known features streams. Its state is the last kernel_size - 1 inputs,
    (kernel_size - 1, N, features), the oldest first, and the number of them seen so far, (1, N, 1).

    Args:
        kernel_size: steps of the window (Keras' pool_size).
        stride: input steps between neighbouring outputs; None for kernel_size (as in PyTorch and Keras).
        padding: "valid", "same" or "causal".
        features: features of x; None for any number. Needed for the state of a causal layer of stride 1.
        dtype: float32 or float64.
    """

    _mode: str

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: str = "valid",
        *,
        features: int | None = None,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        name = type(self).__name__
        self.kernel_size = checks.integer(name, "kernel_size", kernel_size)
        self.features = None if features is None else checks.integer(name, "features", features)
        self._set_named_window(self.kernel_size, self.kernel_size if stride is None else stride, padding)
        self.state_names = ("past", "count") if self._before and self.why_not_streamable() is None else ()
        core = _core.WindowPool1d(
            self._mode,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            features=self.features or 0,
            dtype=checks.dtype_name(name, dtype),
        )
        super().__init__(core, None)

    @property
    def input_size(self) -> int | None:
        """Features; None for any number."""
        return self.features

    @property
    def output_size(self) -> int | None:
        """The input's features."""
        return self.features

    def output_features(self, features: int | None) -> int | None:
        """The input's features."""
        return self.features if features is None else features

    def state_zeros(self, batch_size: int) -> list[Array]:
        """Zeros: no inputs yet."""
        rows = checks.integer(f"{self.label}.init_state", "batch_size", batch_size, 0)
        shapes = ((self._before, rows, self.features or 0), (1, rows, 1))
        return [np.zeros(shape, self.dtype) for _name, shape in zip(self.state_names, shapes, strict=False)]

    def why_not_streamable(self) -> str | None:
        """Streams if every input step gives an output, no later input is needed, and the features are known."""
        if self._before and self.features is None and super().why_not_streamable() is None:
            return "does not know how many features its state holds; make it with features=..."
        return super().why_not_streamable()

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """0: there are no parameters."""
        return 0


@built_in
@with_inherited_arguments
class MaxPool1d(WindowPool):
    """The maximum of each feature over windows of steps; shapes and state as in `WindowPool`.

        shorter, _ = rc.MaxPool1d(2)(x)  # (N, T // 2, features)

    The gradient goes to the first step of the window that attains the maximum.

    Example:
        >>> x = np.array([[[1.0], [3.0], [0.0], [2.0]]], np.float32)
        >>> rc.MaxPool1d(2)(x)[0].ravel().tolist()
        [3.0, 2.0]
    """

    _mode = "max"


@built_in
@with_inherited_arguments
class AvgPool1d(WindowPool):
    """The mean of each feature over windows of steps; shapes and state as in `WindowPool`.

    moving, _ = rc.AvgPool1d(5, stride=1, padding="causal")(x)  # (N, T, features), the mean of the last five steps

    Example:
        >>> x = np.array([[[1.0], [3.0], [0.0], [2.0]]], np.float32)
        >>> rc.AvgPool1d(2)(x)[0].ravel().tolist()
        [2.0, 1.0]
    """

    _mode = "mean"
