"""Converts predictions that are probabilities for losses computed from logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.losses.step_loss import counted_steps


def check(loss: str, activation: str, predictions: Array, lengths: Array | None, weights: Array | None) -> None:
    """Refuse predictions that count but are not in [0, 1]."""
    counted = counted_steps(predictions.shape, lengths, weights)
    valid = predictions if counted is None else predictions[counted]
    low, high = (float(valid.min()), float(valid.max())) if valid.size else (0.0, 1.0)
    if low < 0.0 or high > 1.0:  # NaN passes through to the loss, as it does in logits
        raise ValueError(
            f"{loss}: got predictions from {low:g} to {high:g} for {loss}(from_logits=False), expected probabilities "
            f"from 0 to 1; end the model in Activation({activation!r}), or leave from_logits=False out if they are "
            "logits"
        )


def log(p: Array) -> tuple[Array, Array]:
    """log p and its derivative; p below the dtype's epsilon is clipped to it, with the derivative 0."""
    least: Any = np.finfo(p.dtype).eps
    with np.errstate(divide="ignore", invalid="ignore"):  # padding may be anything
        bounded = np.maximum(p, least)
        return np.log(bounded), np.where(p < least, p.dtype.type(0), 1 / bounded)


def logit(p: Array) -> tuple[Array, Array]:
    """log(p / (1 - p)) and its derivative; p within the dtype's epsilon of 0 or 1 is clipped, with the derivative 0."""
    least: Any = np.finfo(p.dtype).eps
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        bounded = np.clip(p, least, 1 - least)
        slope = np.where((p < least) | (p > 1 - least), p.dtype.type(0), 1 / (bounded * (1 - bounded)))
        return np.log(bounded) - np.log1p(-bounded), slope


def chained(gradient: Array | None, slope: Array) -> Array | None:
    """The gradient with respect to p, by the chain rule; elements that do not count stay 0 even if `slope` is NaN."""
    return None if gradient is None else np.where(gradient == 0, gradient, gradient * slope)
