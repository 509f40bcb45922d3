"""Attention and the attention decoder in plain numpy, f64: what the core must compute. One row at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import reference
from reference import Array

Params = Mapping[str, Array]


def attention(score: str, params: Params, query: Array, memory: Array) -> tuple[Array, Array]:
    """Context (Fm,) and weights (Tm,) of one query (Fq,) over the valid memory steps (Tm, Fm)."""
    if len(memory) == 0:
        return np.zeros(memory.shape[1]), np.zeros(0)
    if score == "additive":
        q = params["weight_query"] @ query + params["bias_query"]
        scores = np.tanh(q + memory @ params["weight_memory"].T) @ params["weight_score"]
    elif score == "general":
        scores = memory @ params["weight_memory"].T @ query
    else:
        scores = memory @ query / (np.sqrt(len(query)) if score == "scaled_dot" else 1.0)
    e = np.exp(scores - scores.max())
    weights = e / e.sum()
    return weights @ memory, weights


def decoder(
    cell: str, score: str, feeding: bool, params: Params, x: Array, memory: Array, state: list[Array]
) -> tuple[Array, list[Array], Array]:
    """Outputs (T, H), final state and weights (T, Tm) of one row; state: h, the LSTM's c, and with feeding a."""
    step = reference.CELLS[cell].step
    w_cell = reference.Weights.of(params, "_l0")
    state, fed = (state[:-1], state[-1]) if feeding else (state, np.zeros(0))
    outputs, weights = [], []
    for x_t in x:
        if score == "additive":
            c, w = attention(score, params, state[0], memory)
            state = list(step(np.concatenate([x_t, c]), state[0], state, w_cell))
            y = state[0]
        else:
            state = list(step(np.concatenate([x_t, fed]), state[0], state, w_cell))
            c, w = attention(score, params, state[0], memory)
            y = np.tanh(params["weight_combine"] @ np.concatenate([c, state[0]]))
            fed = y if feeding else fed
        outputs.append(y)
        weights.append(w)
    hidden = len(state[0])
    return (
        np.array(outputs).reshape(-1, hidden),
        [*state, fed] if feeding else state,
        np.array(weights).reshape(len(x), len(memory)),
    )
