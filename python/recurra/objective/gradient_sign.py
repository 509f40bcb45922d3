"""A look at the gradient of a user's loss: whether it points up, as a gradient does."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from recurra.common import errors
from recurra.common.typing import Array
from recurra.losses import CustomLoss, Loss, LossValue


def is_to_check(loss: Loss) -> bool:
    """Whether a user has written the loss and its gradient."""
    if getattr(loss, "_by", None) is not None:  # autograd has
        return False
    return isinstance(loss, CustomLoss) or not type(loss).__module__.startswith("recurra.")


def warn_if_reversed(
    loss: Loss, predictions: Array, targets: Array, lengths: Array | None, weights: Any, value: LossValue
) -> None:
    """Warn if the loss falls along its gradient about as it should rise. Steps of a hundredth are enough to tell that
    apart from kinks, noise and gradients that are not exact by intention."""
    gradient = value.gradient
    steepest = 0.0 if gradient is None else float(np.abs(gradient).max(initial=0.0))
    if gradient is None or not 0.0 < steepest < np.inf:
        return
    size = float(np.abs(predictions[gradient != 0]).max(initial=1.0))
    move = gradient * (0.01 * size / steepest)
    with suppress(Exception), np.errstate(all="ignore"):  # it may be defined at the predictions alone
        up, down = (
            loss(one.astype(predictions.dtype), targets, lengths, weights=weights, gradient=False).sum
            for one in (predictions + move, predictions - move)
        )
        slope = (up - down) / (2.0 * float(np.vdot(gradient.astype(np.float64), move)))
        if -2.0 < slope < -0.5:
            name = getattr(loss, "_name", type(loss).__name__)
            errors.warn(
                f"{name}: got a gradient along which the loss falls, expected one along which it rises, as an "
                "optimizer goes against it and would make the loss larger; turn its sign round, and try "
                "rc.check_gradient(loss, predictions, targets)"
            )
