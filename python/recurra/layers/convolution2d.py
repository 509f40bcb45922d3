"""Convolution over images."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recurra import _core
from recurra.common import checks
from recurra.common.initialise import uniform
from recurra.common.typing import Array
from recurra.layers.convolution import checked_groups
from recurra.layers.images import ImageLayer, Padding, Pair, pair
from recurra.saving.registry import built_in

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@built_in
class Conv2d(ImageLayer):
    """A convolution over the rows and columns of images (a cross-correlation, as torch.nn.Conv2d).

    Without `width` the steps are an image's columns, as a network that reads lines of text has them: x
    (N, W, height * in_channels), y (N, W', output_height * out_channels). Widths may differ from row to row, by
    lengths. With `width` each step holds an image, as a frame of a video: x (N, T, height * width * in_channels), y
    (N, T, output_height * output_width * out_channels); vectors (N, ...) are images without a time axis.

    Features are laid out channels last, [row][channel] or [row][column][channel], as Conv1d's steps are: layers with a
    number for each channel (BatchNorm2d, PReLU) then need no sizes, and windows are contiguous. PyTorch's images
    (N, C, H, W) become `images.transpose(0, 3, 2, 1).reshape(N, W, H * C)`, and with `width`
    `images.transpose(0, 2, 3, 1).reshape(N, H * W * C)`.

        y[i, j] = b + sum over a, c of
            W[:, :, a, c] x[i * stride + a * dilation - top, j * stride + c * dilation - left]

    where x is zero outside the image. Where columns are steps, a row is padded at its own end, a row of no steps has no
    output, and with stride 1 and `padding=(..., "causal")` the layer streams column by column, as Conv1d does; its
    state is the last left columns, (left, N, height * in_channels), oldest first. With reset, as of Conv1d, no window
    crosses the start of an episode. With `width` it streams step by step and has no state.

    Parameters: weight (out_channels, in_channels / groups, kernel height, kernel width), bias (out_channels).

    Args:
        in_channels, out_channels: sizes.
        kernel_size, stride, dilation: for height and width: a number, or a pair.
        padding: zeros around the image: a number for both sides, "same" (span - 1 in all, with span = (kernel - 1) *
            dilation + 1; the output has ceil(size / stride) rows or columns), "valid" (none) or, where columns are
            steps, for the width "causal" (span - 1 before the first column, none behind the last one); or a pair for
            height and width.
        height: rows of the image.
        width: columns of the image; None if they are the steps.
        groups: as of Conv1d.
        bias: whether to add b.
        dtype: float32 or float64.
        seed: for the parameters, drawn from U(-k, k), k = 1/sqrt(in_channels * kernel height * kernel width); None for
            a fresh seed.

    Example:
        >>> columns = np.ones((2, 40, 32), np.float32)  # 40 columns of 32 rows
        >>> rc.Conv2d(1, 8, 3, padding=1, height=32)(columns)[0].shape
        (2, 40, 256)
        >>> image = np.ones((2, 32 * 40 * 3), np.float32)
        >>> rc.Conv2d(3, 8, 3, height=32, width=40)(image)[0].shape[1] == 30 * 38 * 8
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = (1, 1),
        padding: Padding = (0, 0),
        dilation: Pair = (1, 1),
        *,
        height: int,
        width: int | None = None,
        groups: int = 1,
        bias: bool = True,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.in_channels = checks.integer("Conv2d", "in_channels", in_channels)
        self.out_channels = checks.integer("Conv2d", "out_channels", out_channels)
        self._set_image(height, width, kernel_size, stride, padding, dilation)
        self.groups = checked_groups("Conv2d", groups, self.in_channels, self.out_channels)
        self.bias = checks.flag("Conv2d", "bias", bias)
        self.state_names = ("past",) if self._before and self.why_not_streamable() is None else ()
        name = checks.dtype_name("Conv2d", dtype)
        sizes = (self.in_channels, self.out_channels)
        options = {**self._image_options(), "dilation": self.dilation, "groups": self.groups}
        super().__init__(_core.Conv2d(*sizes, **options, bias=self.bias, dtype=name), seed)

    @property
    def input_size(self) -> int:
        """Features of a step: a column or an image."""
        return self.in_channels * self.height * (self.width or 1)

    @property
    def output_size(self) -> int:
        """Features of a step of the output."""
        return self.out_channels * self.output_height * (self.output_width or 1)

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """Weights and biases."""
        inputs, outputs = (operator.index(config[name]) for name in ("in_channels", "out_channels"))
        tall, wide = pair("Conv2d", "kernel_size", config["kernel_size"])
        groups = operator.index(config.get("groups", 1))
        return outputs * (inputs // max(groups, 1) * tall * wide + (1 if config["bias"] else 0))

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return uniform(rng, shape, self.in_channels // self.groups * self.kernel_size[0] * self.kernel_size[1])
