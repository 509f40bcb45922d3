"""Advice for gradients that vanish or explode."""

from __future__ import annotations

import math

from recurra.inspection.subject import Part


def advice(part: Part, verdict: str, steps: int, *, alive: bool) -> list[str]:
    """Advice for a part with `steps` steps, the most likely to help first."""
    if verdict == "vanishing":
        return _vanishing(part, steps) if alive else _dead(part)
    return _exploding(part) if verdict == "exploding" else []


def _vanishing(part: Part, steps: int) -> list[str]:
    # The bias of a gate that keeps the state for `steps`: 1 / (1 + e^-b) = 1 - 1 / (1 + steps).
    bias = f"{math.log(max(steps, 2)):.1f}"
    name = f"{part.prefix}bias_ih{part.end}"
    own = {
        "lstm": f"forget gates that keep the cell longer: forget_bias up to {bias}, the logarithm of the steps, or "
        "initial biases of various sizes up to it",
        "gru": f"gates that keep the state longer: for z, the second third of {name}, initial biases up to {bias}",
        "gru_reset_before": f"gates that keep the state longer: for z, the second third of {name}, initial biases up "
        f"to {bias}",
        "min_gru": f"gates that keep the state longer: for z, the first half of {name}, initial biases down to -{bias}",
        "min_lstm": f"gates that keep the state longer: for f, the first third of {name}, initial biases up to {bias}",
    }.get(part.cell.removesuffix("_positive"))
    if own is None:
        found = [
            f"an LSTM with forget_bias up to {bias}, or a GRU: a state that is passed on additively",
            'recurrent_init="orthogonal"',
        ]
    else:
        found = [own]
    return [
        *found,
        "shorter paths: AttentionPool or a mean over the outputs instead of the last one, a loss at more steps",
        "fewer steps: shorter sequences, a Conv1d with a stride in front",
    ]


def _dead(part: Part) -> list[str]:
    found = ["checking the layers above and the loss: no gradient arrives here"]
    if part.cell == "rnn_relu":
        found.insert(0, 'nonlinearity="tanh", or a lower learning rate: all ReLU units may be dead')
    return found


def _exploding(part: Part) -> list[str]:
    found = ["clip_norm=1.0 in fit", "a lower learning rate"]
    if part.cell.startswith("rnn"):
        found.append('recurrent_init="orthogonal" or smaller recurrent weights; an LSTM or a GRU')
    if part.cell != "gru_reset_before" and not part.cell.startswith("min"):
        found.append("layer_norm=True")
    return [*found, "shorter sequences, or truncated backpropagation"]
