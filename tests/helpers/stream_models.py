"""Models that stream, of every kind, and what tests of streams have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import recurra as rc
from array_types import Array
from user_layers import Scale, Softsign

FEATURES, TOKENS = 5, 11


def windows(dtype: str) -> Any:
    return rc.Sequential(
        rc.Conv1d(FEATURES, 6, 4, padding="causal", dilation=2, dtype=dtype),
        rc.AvgPool1d(3, stride=1, padding="causal", features=6, dtype=dtype),
        rc.MaxPool1d(2, stride=1, padding="causal", features=6, dtype=dtype),
        rc.GRU(6, 9, layer_norm=True, dtype=dtype),
        rc.LayerNorm(9, dtype=dtype),
        rc.Activation("tanh", dtype=dtype),
        rc.Linear(9, 3, dtype=dtype),
        seed=0,
    )


def tokens(dtype: str) -> Any:
    return rc.Sequential(
        rc.Embedding(TOKENS, FEATURES, dtype=dtype), rc.LSTM(FEATURES, 17, dtype=dtype), rc.GRU(17, 5, 2, dtype=dtype)
    )


def nested(dtype: str) -> Any:
    inner = rc.Sequential(rc.LSTM(FEATURES, 8, dtype=dtype), rc.Linear(8, FEATURES, dtype=dtype))
    return rc.Sequential(rc.Residual(inner), rc.BatchNorm(FEATURES, dtype=dtype), rc.RNN(FEATURES, 4, dtype=dtype))


def branches(dtype: str) -> Any:
    x = rc.Input(features=FEATURES, dtype=dtype)
    h = rc.GRU(FEATURES, 6, dtype=dtype)(x)
    return rc.Model(x, rc.Concatenate(dtype=dtype)((h, rc.LSTM(6, 4, dtype=dtype)(h), x[..., :2])))


def mixed(dtype: str) -> Any:
    """Two native runs with layers written in Python between and behind them."""
    return rc.Sequential(
        rc.GRU(FEATURES, 6, dtype=dtype), Scale(6, dtype), rc.LSTM(6, 4, dtype=dtype), Softsign(), seed=0
    )


MODELS: dict[str, Callable[[str], Any]] = {
    "windows": windows,
    "tokens": tokens,
    "nested": nested,
    "branches": branches,
    "mixed": mixed,
    "python alone": lambda dtype: Scale(FEATURES, dtype),
    "stateless": lambda dtype: rc.Linear(FEATURES, 2, dtype=dtype),
}


def flat(state: Any) -> list[Array]:
    """The arrays of a state."""
    if isinstance(state, list | tuple):
        return [array for entry in state for array in flat(entry)]
    return [] if state is None else [state]
