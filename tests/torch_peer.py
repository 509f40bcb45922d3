"""PyTorch as an independent peer: torch.nn where it has the cell, a masked loop of torch operations elsewhere."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from support import Array, Case, Outcome, Problem, draw

State = tuple[torch.Tensor, ...]

MODULES = {"rnn_tanh": torch.nn.RNN, "rnn_relu": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def module(
    case: Case, params: dict[str, Array] | None = None, dtype: str = "float32", **options: Any
) -> torch.nn.RNNBase:
    """The torch.nn module of a case, with its parameters where they are given."""
    if case.cell.startswith("rnn"):
        options["nonlinearity"] = case.cell.removeprefix("rnn_")
    made = MODULES[case.cell](
        case.input_size,
        case.hidden_size,
        case.num_layers,
        **{"bias": case.bias, "batch_first": True, "bidirectional": case.bidirectional, **options},
    ).to(getattr(torch, dtype))
    if params is not None:
        made.load_state_dict({name: torch.from_numpy(value.astype(dtype)) for name, value in params.items()})
    return made


def run_module(problem: Problem, dtype: str) -> Outcome:
    """Forward and every gradient by torch.nn, through packed sequences where there are lengths."""
    case = problem.case
    peer = module(case, problem.params, dtype)
    valid = torch.from_numpy(problem.valid())
    # PyTorch refuses rows of length 0; their outcome is by definition no output, the initial state and its gradient.
    alive = np.flatnonzero(problem.valid().any(axis=1))
    x, *state = leaves = _leaves(problem, dtype)
    packed: Any = x[alive]
    if problem.lengths is not None:
        lengths = torch.from_numpy(problem.lengths[alive])
        packed = pack_padded_sequence(packed, lengths, batch_first=True, enforce_sorted=False)
    initial = tuple(part[:, alive].contiguous() for part in state)
    output, last = peer(packed, initial if len(initial) > 1 else initial[0])
    if problem.lengths is not None:
        output, _ = pad_packed_sequence(output, batch_first=True, total_length=case.steps)
    last = last if isinstance(last, tuple) else (last,)
    y = torch.zeros(valid.shape + output.shape[2:], dtype=output.dtype).index_put((torch.from_numpy(alive),), output)
    final = []
    for part, value in zip(state, last, strict=True):
        final.append(part.index_put((torch.tensor(range(case.slots))[:, None], torch.from_numpy(alive)), value))
    return _finish(problem, dtype, y, tuple(final), leaves, dict(peer.named_parameters()))


def _rnn(activation: Any) -> Any:
    linear = torch.nn.functional.linear

    def step(x: torch.Tensor, state: State, w: State) -> State:
        return (activation(linear(x, w[0], w[2]) + linear(state[0], w[1], w[3])),)

    return step


def _gru_reset_before(x: torch.Tensor, state: State, w: State) -> State:
    linear, hidden = torch.nn.functional.linear, state[0].shape[1]
    from_x = linear(x, w[0], w[2]).chunk(3, dim=1)
    r, z = torch.sigmoid(torch.cat(from_x[:2], dim=1) + linear(state[0], w[1][: 2 * hidden], w[3][: 2 * hidden])).chunk(
        2, dim=1
    )
    n = torch.tanh(from_x[2] + linear(r * state[0], w[1][2 * hidden :], w[3][2 * hidden :]))
    return ((1 - z) * n + z * state[0],)


def _candidate(n: torch.Tensor, positive: bool) -> torch.Tensor:
    return torch.where(n >= 0, n + 0.5, torch.sigmoid(n)) if positive else n


def _min_gru(positive: bool) -> Any:
    def step(x: torch.Tensor, state: State, w: State) -> State:
        z, n = torch.nn.functional.linear(x, w[0], w[2]).chunk(2, dim=1)
        return ((1 - torch.sigmoid(z)) * state[0] + torch.sigmoid(z) * _candidate(n, positive),)

    return step


def _min_lstm(positive: bool) -> Any:
    def step(x: torch.Tensor, state: State, w: State) -> State:
        f, i, n = torch.nn.functional.linear(x, w[0], w[2]).chunk(3, dim=1)
        f, i = torch.sigmoid(f), torch.sigmoid(i)
        return (f / (f + i) * state[0] + i / (f + i) * _candidate(n, positive),)

    return step


STEPS = {
    "rnn_tanh": _rnn(torch.tanh),
    "rnn_relu": _rnn(torch.relu),
    "rnn_sigmoid": _rnn(torch.sigmoid),
    "lstm": lambda x, state, w: torch.lstm_cell(x, state, *w),
    "gru": lambda x, state, w: (torch.gru_cell(x, state[0], *w),),
    "gru_reset_before": _gru_reset_before,
    "min_gru": _min_gru(False),
    "min_gru_positive": _min_gru(True),
    "min_lstm": _min_lstm(False),
    "min_lstm_positive": _min_lstm(True),
}


def run_loop(problem: Problem, dtype: str) -> Outcome:
    """Forward and every gradient by autograd over a loop of steps: all rows together, masked where they have ended."""
    case = problem.case
    params = {name: torch.tensor(value.astype(dtype), requires_grad=True) for name, value in problem.params.items()}
    valid = torch.from_numpy(problem.valid())
    reset = torch.zeros_like(valid) if problem.reset is None else torch.from_numpy(problem.reset) & valid
    y, *state = leaves = _leaves(problem, dtype)
    final: list[State] = []
    for layer in range(case.num_layers):
        outputs = []
        for suffix in [f"_l{layer}", f"_l{layer}_reverse"][: case.slots // case.num_layers]:
            zero = torch.zeros(len(params["weight_ih" + suffix]), dtype=y.dtype)
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            w = tuple(params.get(name + suffix, zero) for name in names)
            s = tuple(part[len(final)] for part in state)
            sequence: list[torch.Tensor] = [zero] * case.steps
            reverse = suffix.endswith("_reverse")
            for t in reversed(range(case.steps)) if reverse else range(case.steps):
                boundary = t + reverse
                if boundary < case.steps:
                    s = tuple(torch.where(reset[:, boundary, None], 0.0, part) for part in s)
                new = STEPS[case.cell](y[:, t], s, w)
                s = tuple(torch.where(valid[:, t, None], a, b) for a, b in zip(new, s, strict=True))
                sequence[t] = torch.where(valid[:, t, None], s[0], 0.0)
            final.append(s)
            outputs.append(torch.stack(sequence, dim=1))
        y = torch.cat(outputs, dim=2)
    parts = tuple(torch.stack(part) for part in zip(*final, strict=True))
    return _finish(problem, dtype, y, parts, leaves, params)


def run(problem: Problem, dtype: str) -> Outcome:
    if problem.case.cell in MODULES and problem.reset is None:
        return run_module(problem, dtype)
    return run_loop(problem, dtype)


@cache
def solved(case: Case, dtype: str) -> Outcome:
    """The peer's outcome of a case, computed once for all the tests that ask."""
    return run(draw(case), dtype)


def _leaves(problem: Problem, dtype: str) -> list[torch.Tensor]:
    shape = (problem.case.slots, problem.case.rows, problem.case.hidden_size)
    state = problem.state or tuple(np.zeros(shape) for _ in problem.dstate)
    arrays = [np.nan_to_num(problem.x), *state]
    return [torch.tensor(array.astype(dtype), requires_grad=True) for array in arrays]


def _finish(
    problem: Problem, dtype: str, y: torch.Tensor, state: State, leaves: list[torch.Tensor], params: dict[str, Any]
) -> Outcome:
    upstream = [np.nan_to_num(problem.dy), *problem.dstate]
    torch.autograd.backward([y, *state], [torch.from_numpy(array.astype(dtype)) for array in upstream])

    def gradient(tensor: torch.Tensor) -> Array:
        return np.zeros(tensor.shape, dtype) if tensor.grad is None else tensor.grad.numpy()

    return Outcome(
        y.detach().numpy(),
        tuple(part.detach().numpy() for part in state),
        gradient(leaves[0]),
        tuple(gradient(leaf) for leaf in leaves[1:]),
        {name: gradient(params[name]) for name in problem.params},
    )
