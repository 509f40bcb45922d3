"""Operations on the valid steps of batches of tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def within(lengths: Tensor, steps: int) -> Tensor:
    """The mask of valid steps, (N, T)."""
    return torch.arange(steps, device=lengths.device)[None] < lengths[:, None]


def cleared(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x (N, T, features), with zeros past the lengths."""
    if lengths is None:
        return x
    return torch.where(within(lengths, x.shape[1])[..., None], x, torch.zeros((), dtype=x.dtype, device=x.device))


def turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x with the valid steps of each row reversed."""
    if lengths is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device)[None]
    places = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[2]))


def last(x: Tensor, lengths: Tensor | None) -> Tensor:
    """The last valid step of each row; zeros for rows without steps."""
    if lengths is None:
        return x[:, -1]
    place = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, x.shape[2])
    return torch.where(lengths[:, None] > 0, x.gather(1, place)[:, 0], torch.zeros((), dtype=x.dtype, device=x.device))
