"""The base of layers over the rows and columns of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.layers.windows import Windowed, sides

#: An option for height and width: one for both, or a pair.
Pair = int | Sequence[int]
#: Padding: zeros on both sides, or a name.
Padding = int | str | Sequence[int | str]


def pair(operation: str, name: str, value: Any) -> tuple[int, int]:
    """An option as (height, width)."""
    both = _both(operation, name, value)
    return checks.integer(operation, name, both[0]), checks.integer(operation, name, both[1])


def _both(operation: str, name: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, list | tuple):
        return value, value
    if len(value) != 2:
        raise ValueError(
            f"{operation}: got {name}={value!r}, expected one value or a pair, of the height and of the width; "
            f"write {name}=(height, width)"
        )
    return value[0], value[1]


def _sides(operation: str, padding: Any, span: int, is_steps: bool) -> tuple[Any, tuple[int, int]]:
    """An axis' padding as an attribute, and the zeros on both sides."""
    if isinstance(padding, str):
        allowed = ("same", "valid", "causal") if is_steps else ("same", "valid")
        checks.choice(operation, "padding", padding, allowed)
        return padding, sides(span, padding)
    zeros = checks.integer(operation, "padding", padding, 0)
    return zeros, (zeros, zeros)


class ImageLayer(Windowed):
    """The base of Conv2d, MaxPool2d and AvgPool2d: windows that move over the rows and columns of images.

    A step's features are laid out [row][column][channel], or [row][channel] where the steps are the columns.
    """

    def _set_image(
        self,
        height: int,
        width: int | None,
        kernel_size: Pair,
        stride: Pair,
        padding: Padding,
        dilation: Pair = (1, 1),
    ) -> None:
        name = type(self).__name__
        self.height = checks.integer(name, "height", height)
        self.width = None if width is None else checks.integer(name, "width", width)
        self.kernel_size, self.stride = pair(name, "kernel_size", kernel_size), pair(name, "stride", stride)
        self.dilation = pair(name, "dilation", dilation)
        self._spans = [(k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        zeros = _both(name, "padding", padding)
        tall = _sides(name, zeros[0], self._spans[0], is_steps=False)
        wide = _sides(name, zeros[1], self._spans[1], is_steps=self.width is None)
        self.padding = tall[0], wide[0]
        self._zeros = tall[1], wide[1]
        for axis, size in enumerate((self.height, self.width)):
            room = None if size is None else size + sum(self._zeros[axis])
            if room is not None and self._spans[axis] > room:
                raise ValueError(
                    f"{name}: got a window of {self._spans[axis]} {('rows', 'columns')[axis]} for an image of {room} "
                    "with its padding, expected at most as many; make kernel_size smaller or padding larger"
                )
        if self.width is None:
            self._set_window(self._spans[1], self.stride[1], *self._zeros[1])
        else:
            self.needs_sequences = False
            self._set_window(1, 1, 0, 0)

    def _outputs(self, axis: int, size: int) -> int:
        stride: int = self.stride[axis]
        return (size + sum(self._zeros[axis]) - self._spans[axis]) // stride + 1

    @property
    def output_height(self) -> int:
        """Rows of the output's images."""
        return self._outputs(0, self.height)

    @property
    def output_width(self) -> int | None:
        """Columns of the output's images; None where they are the steps."""
        return None if self.width is None else self._outputs(1, self.width)

    def _image_options(self) -> dict[str, Any]:
        """The options of the core's layers."""
        options = {"height": self.height, "width": self.width or 0, "stride": self.stride, "padding": self._zeros}
        return {"kernel_size": self.kernel_size, **options}

    def state_zeros(self, batch_size: int) -> list[Array]:
        """Zeros: no columns yet; empty without a state."""
        rows = checks.integer(f"{self.label}.init_state", "batch_size", batch_size, 0)
        shapes = ((self._before, rows, self.input_size or 0), (1, rows, 1))
        return [np.zeros(shape, self.dtype) for _name, shape in zip(self.state_names, shapes, strict=False)]
