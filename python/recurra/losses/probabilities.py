"""Predictions that are probabilities, in losses that are computed from logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.losses.step_loss import counted_steps


def check(loss: str, activation: str, predictions: Array, lengths: Array | None, weights: Array | None) -> None:
    """Refuse predictions that count and do not lie from 0 to 1."""
    counted = counted_steps(predictions.shape, lengths, weights)
    valid = predictions if counted is None else predictions[counted]
    low, high = (float(valid.min()), float(valid.max())) if valid.size else (0.0, 1.0)
    if low < 0.0 or high > 1.0:  # NaN goes on to the loss, as it does in logits
        raise ValueError(
            f"{loss}: got predictions from {low:g} to {high:g} for {loss}(from_logits=False), expected probabilities from "
            f"0 to 1; end the model in Activation({activation!r}), or leave from_logits=False out if they are logits"
        )


def log(p: Array) -> tuple[Array, Array]:
    """log p and its derivative; what is below the dtype's epsilon is taken as that, and has the derivative 0."""
    least: Any = np.finfo(p.dtype).eps
    with np.errstate(divide="ignore", invalid="ignore"):  # padding may be anything
        bounded = np.maximum(p, least)
        return np.log(bounded), np.where(p < least, p.dtype.type(0), 1 / bounded)


def logit(p: Array) -> tuple[Array, Array]:
    """log(p / (1 - p)) and its derivative, which is 0 where p is nearer than the dtype's epsilon to 0 or 1."""
    least: Any = np.finfo(p.dtype).eps
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        bounded = np.clip(p, least, 1 - least)
        slope = np.where((p < least) | (p > 1 - least), p.dtype.type(0), 1 / (bounded * (1 - bounded)))
        return np.log(bounded) - np.log1p(-bounded), slope


def chained(gradient: Array | None, slope: Array) -> Array | None:
    """The gradient with respect to p; where nothing counts it stays 0, whatever lies there."""
    return None if gradient is None else np.where(gradient == 0, gradient, gradient * slope)
