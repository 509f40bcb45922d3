"""Pooling over windows of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recurra import _core
from recurra.common import checks
from recurra.common.docstrings import with_inherited_arguments
from recurra.layers.images import ImageLayer, Padding, Pair
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy.typing as npt


class ImagePool(ImageLayer):
    """The base of MaxPool2d and AvgPool2d: windows of the images that `Conv2d` describes, channel by channel.

    `y, state = pool(x)`: x (N, W, height * channels), y (N, W', output_height * channels) where the steps are the
    columns; with `width` x (N, T, height * width * channels), y (N, T, output_height * output_width * channels).

    A window pools only what lies within the image (PyTorch's count_include_pad=False). Where columns are steps, a row
    ends at its length, and with stride 1 and `padding=(..., "causal")` the layer streams; its state is the last
    columns, (left, N, height * channels), the oldest first, and the number of them seen so far, (1, N, 1).

    Args:
        kernel_size: height and width of the window: a number, or a pair.
        stride: the same; None for kernel_size.
        padding: as of `Conv2d`, less than the window.
        channels: sizes.
        height: rows of the image.
        width: columns of the image; None if they are the steps.
        dtype: float32 or float64.
    """

    _mode: str

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Padding = (0, 0),
        *,
        channels: int,
        height: int,
        width: int | None = None,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        name = type(self).__name__
        self.channels = checks.integer(name, "channels", channels)
        self._set_image(height, width, kernel_size, kernel_size if stride is None else stride, padding)
        for axis, zeros in enumerate(self._zeros):
            if max(zeros) >= self._spans[axis]:
                raise ValueError(
                    f"{name}: got padding={padding!r} for kernel_size={kernel_size!r}, expected less than the window, "
                    "which would lie in the padding alone; make padding smaller"
                )
        self.state_names = ("past", "count") if self._before and self.why_not_streamable() is None else ()
        options = {**self._image_options(), "channels": self.channels, "dtype": checks.dtype_name(name, dtype)}
        super().__init__(_core.WindowPool2d(self._mode, **options), None)

    @property
    def input_size(self) -> int:
        """Features of a step: a column or an image."""
        return self.channels * self.height * (self.width or 1)

    @property
    def output_size(self) -> int:
        """Features of a step of the output."""
        return self.channels * self.output_height * (self.output_width or 1)

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """0: there are no parameters."""
        return 0


@built_in
@with_inherited_arguments
class MaxPool2d(ImagePool):
    """The maximum of each channel over windows of images; shapes and state as in `ImagePool`.

        halved, _ = rc.MaxPool2d(2, channels=64, height=32)(x)  # (N, W // 2, 16 * 64)

    The gradient goes to the first value of the window that attains the maximum.

    Example:
        >>> x = np.array([[[1.0, 3.0], [0.0, 2.0]]], np.float32)  # two columns of two rows
        >>> rc.MaxPool2d(2, channels=1, height=2)(x)[0].tolist()
        [[[3.0]]]
    """

    _mode = "max"


@built_in
@with_inherited_arguments
class AvgPool2d(ImagePool):
    """The mean of each channel over windows of images; shapes and state as in `ImagePool`.

    lower, _ = rc.AvgPool2d((2, 1), channels=64, height=32)(x)  # (N, W, 16 * 64)

    Example:
        >>> x = np.array([[[1.0, 3.0], [0.0, 2.0]]], np.float32)  # two columns of two rows
        >>> rc.AvgPool2d((2, 1), channels=1, height=2)(x)[0].tolist()
        [[[2.0], [1.0]]]
    """

    _mode = "mean"
