"""Modules of PyTorch that are equivalent to layers with numbers for each channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recurra.interop.torch import steps


class ChannelPReLU(nn.PReLU):
    """A PReLU of the channels of (..., positions * channels)."""

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return super().forward(x.reshape(-1, self.num_parameters)).view(x.shape)


class RowGroupNorm(nn.GroupNorm):
    """Group normalisation of each row of (N, T, positions * channels) over its valid steps."""

    takes_lengths = True

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The outputs and the lengths."""
        shape = (x.shape[0], -1, self.num_groups, self.num_channels // self.num_groups)
        rows = (x[:, None] if x.ndim == 2 else x).reshape(shape)
        there = torch.ones_like(rows)
        if lengths is not None:
            there = steps.within(lengths, x.shape[1])[..., None].expand(x.shape).reshape(shape).to(x.dtype)
        rows = torch.where(there > 0, rows, 0.0)
        count = there.sum((1, 3), keepdim=True).clamp(min=1)
        centred = torch.where(there > 0, rows - rows.sum((1, 3), keepdim=True) / count, 0.0)
        scaled = centred / (centred.square().sum((1, 3), keepdim=True) / count + self.eps).sqrt()
        y = scaled.reshape(x.shape[0], -1, self.num_channels)
        y = y if self.weight is None else y * self.weight + self.bias
        return y.reshape(x.shape), lengths


class Permuted(nn.Module):
    """Reorders the features of each step."""

    def __init__(self, shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.dims = shape, dims

    def forward(self, x: Tensor) -> Tensor:
        """The permuted features."""
        return x.reshape(-1, *self.shape).permute(0, *(axis + 1 for axis in self.dims)).reshape(x.shape)
