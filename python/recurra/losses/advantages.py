"""Advantages of actions, estimated from rewards and values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.typing import Array, Lengths


def gae(
    rewards: npt.ArrayLike,
    values: npt.ArrayLike,
    last_values: npt.ArrayLike = 0.0,
    *,
    reset: npt.ArrayLike | None = None,
    lengths: Lengths = None,
    discount: float = 0.99,
    lambda_: float = 0.95,
) -> tuple[Array, Array]:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16): the advantages, and returns.

        delta_t = r_t + discount v_{t+1} - v_t    A_t = delta_t + discount lambda A_{t+1}    R_t = A_t + v_t

    Where step t + 1 begins another episode, v_{t+1} and A_{t+1} are 0. If the episode before was cut off rather than
    finished (a limit of time), add discount times the value of the state that it was left in to the reward of step t.

    Args:
        rewards: (N, T), of the action of each step.
        values: (N, T), of the state that each action was chosen in.
        last_values: (N,) or one number, the value of the state after a row's last step; 0 if the episode ended there.
        reset: (N, T) bools, where an episode begins, as recurrent layers take them; None: nowhere but at step 0.
        lengths: (N,) valid steps of each row; None for all.
        discount, lambda_: from 0 to 1. lambda_=1 gives returns minus values, 0 the one-step errors delta.

    Returns:
        Advantages and returns, (N, T) float64, 0 past the lengths.

    Raises:
        ValueError, TypeError: shapes that differ; numbers out of range.

    Example:
        >>> advantages, returns = rc.losses.gae(
        ...     [[1.0, 1.0, 1.0]],
        ...     [[0.5, 0.5, 0.5]],
        ...     reset=[[True, False, True]],
        ...     discount=1.0,
        ...     lambda_=1.0,
        ... )
        >>> returns
        array([[2., 1., 1.]])
    """
    name = "losses.gae"
    reward, value = (
        checks.numeric(name, key, given).astype(np.float64) for key, given in (("rewards", rewards), ("values", values))
    )
    if reward.ndim != 2 or value.shape != reward.shape:
        raise ValueError(
            f"{name}: got rewards of shape {reward.shape} and values of shape {value.shape}, expected (N, T) for both; "
            "write rewards[None] if it is one row, and values[..., 0] if they have an axis of one feature"
        )
    rows, steps = reward.shape
    after = checks.numeric(name, "last_values", last_values).astype(np.float64)
    if after.shape not in ((), (rows,)):
        raise ValueError(
            f"{name}: got last_values of shape {after.shape}, expected ({rows},); give one number for each row"
        )
    valid = np.full(rows, steps) if lengths is None else checks.lengths_within(name, lengths, rows, steps)
    for key, given in (("rewards", reward), ("values", value), ("last_values", after)):
        counted = given if lengths is None or key == "last_values" else given[checks.steps_within(valid, steps)]
        if not np.isfinite(counted).all():
            raise ValueError(
                f"{name}: got NaN or infinity in {key}, expected finite numbers; look for them in the environment and "
                "the model, and give lengths where rows are padded"
            )
    begins = np.zeros((rows, steps), bool) if reset is None else np.asarray(reset)
    if begins.shape != reward.shape or begins.dtype != bool:
        raise ValueError(
            f"{name}: got reset of shape {begins.shape} and {begins.dtype}, expected bools of shape {reward.shape}; "
            "mark the first step of each episode"
        )
    discount = checks.number(name, "discount", discount, 0.0, 1.0)
    lambda_ = checks.number(name, "lambda_", lambda_, 0.0, 1.0)
    advantages = np.zeros((rows, steps))
    following, advantage = np.broadcast_to(after, (rows,)), np.zeros(rows)
    for step in reversed(range(steps)):
        within = step < valid
        error = reward[:, step] + discount * following - value[:, step]
        advantage = np.where(within, error + discount * lambda_ * advantage, 0.0)
        advantages[:, step] = advantage
        following = np.where(within, value[:, step], following)
        begun = within & begins[:, step]
        following, advantage = np.where(begun, 0.0, following), np.where(begun, 0.0, advantage)
    returns = np.where(np.arange(steps) < valid[:, None], advantages + value, 0.0)
    return advantages, returns
