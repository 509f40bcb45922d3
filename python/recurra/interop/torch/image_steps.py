"""Modules of PyTorch that are equivalent to layers on images, and to transposed convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recurra.interop.torch import steps


class Images(nn.Module):
    """Applies a module of images to (N, T, features): columns as steps, or images in each step or vector."""

    takes_lengths = True

    def __init__(self, layer: Any, fill: float = 0.0) -> None:
        super().__init__()
        self.size, self.fill = (layer.height, layer.width), fill
        self.window = (layer._before + layer._after - layer._span, layer._step_stride)
        self.zeros = (layer._zeros[1][0], layer._zeros[1][1], layer._zeros[0][0], layer._zeros[0][1])

    def spread(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The padded images, with channels second."""
        height, width = self.size
        if width is not None:
            images = x.reshape(-1, height, width, x.shape[-1] // (height * width)).permute(0, 3, 1, 2)
        else:
            if lengths is not None:
                x = torch.where(steps.within(lengths, x.shape[1])[..., None], x, x.new_full((), self.fill))
            images = x.reshape(*x.shape[:2], height, x.shape[2] // height).permute(0, 3, 2, 1)
        return nn.functional.pad(images, self.zeros, value=self.fill)

    def images(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The output as images."""
        raise NotImplementedError

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The outputs and their lengths."""
        images = self.images(x, lengths)
        if self.size[1] is not None:
            return images.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1), lengths
        if lengths is not None:
            room, stride = self.window
            made = (torch.div(lengths + room, stride, rounding_mode="floor") + 1).clamp(min=0)
            lengths = torch.where(lengths > 0, made, 0)
        return images.permute(0, 3, 2, 1).flatten(2), lengths


class ImageConv2d(Images):
    """As recurra's Conv2d."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__(layer)
        shapes = {name: layer.parameters.shape(name) for name in layer.parameters.names}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(tuple(shape), dtype=dtype)))
        self.options = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}

    def images(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The convolution."""
        bias = self._parameters.get("bias")
        return nn.functional.conv2d(self.spread(x, lengths), self.weight, bias, **self.options)


class ImagePool2d(Images):
    """As recurra's MaxPool2d and AvgPool2d."""

    def __init__(self, layer: Any, mean: bool) -> None:
        super().__init__(layer, 0.0 if mean else -torch.inf)
        self.mean, self.options = mean, (layer.kernel_size, layer.stride)

    def images(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The pooled images."""
        images = self.spread(x, lengths)
        if not self.mean:
            return nn.functional.max_pool2d(images, *self.options)
        there = self.spread(torch.ones_like(x), lengths)
        counts = nn.functional.avg_pool2d(there, *self.options)
        return nn.functional.avg_pool2d(images, *self.options) / counts.clamp(min=torch.finfo(x.dtype).eps)


class StepConvTranspose1d(nn.ConvTranspose1d):
    """A transposed convolution over the steps of (N, T, features)."""

    takes_lengths = True

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The outputs and their lengths."""
        one = (self.kernel_size[0] - 1) * self.dilation[0] + 1 + self.output_padding[0] - 2 * int(self.padding[0])
        if x.shape[1] == 0:
            return x.new_zeros(x.shape[0], 0, self.out_channels), lengths
        y = super().forward(steps.cleared(x, lengths).transpose(1, 2)).transpose(1, 2)
        if lengths is not None:
            lengths = torch.where(lengths > 0, (lengths - 1) * self.stride[0] + one, 0)
        return y, lengths
