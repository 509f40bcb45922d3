"""PyTorch as an independent peer: torch.nn if it has the cell, else a masked loop of torch operations."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import masks
from array_types import Array
from cell_cases import Case, Problem, draw
from cell_runs import Outcome
from cell_variants import VARIANTS
from reference import Options

State = tuple[torch.Tensor, ...]

MODULES = {"rnn_tanh": torch.nn.RNN, "rnn_relu": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
MODULES |= {name: torch.nn.LSTM for name, variant in VARIANTS.items() if [*variant.keywords] == ["proj_size"]}


def module(
    case: Case, params: dict[str, Array] | None = None, dtype: str = "float32", **options: Any
) -> torch.nn.RNNBase:
    """The torch.nn module of a case, with the given parameters, if any."""
    if case.cell.startswith("rnn"):
        options["nonlinearity"] = case.cell.removeprefix("rnn_")
    made = MODULES[case.cell](
        case.input_size,
        case.hidden_size,
        case.num_layers,
        **{"bias": case.bias, "batch_first": True, "bidirectional": case.bidirectional, **case.keywords, **options},
    ).to(getattr(torch, dtype))
    if params is not None:
        made.load_state_dict({name: torch.from_numpy(value.astype(dtype)) for name, value in params.items()})
    return made


def run_module(problem: Problem, dtype: str) -> Outcome:
    """Forward and all gradients by torch.nn, with packed sequences if there are lengths."""
    case = problem.case
    peer = module(case, problem.params, dtype)
    valid = torch.from_numpy(problem.valid())
    # PyTorch refuses rows of length 0; by definition they have no output, and the initial state and its gradient pass.
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


Parameters = dict[str, torch.Tensor]


def _product(w: Parameters, source: str, v: torch.Tensor) -> torch.Tensor:
    weight, bias, gain = w[f"weight_{source}"], w.get(f"bias_{source}"), w.get(f"weight_norm_{source}")
    if gain is None:
        return torch.nn.functional.linear(v, weight, bias)
    return torch.nn.functional.layer_norm(torch.nn.functional.linear(v, weight), gain.shape, gain, bias)


ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "hard_sigmoid": lambda v: (v / 6 + 0.5).clamp(0, 1),  # the gradient of torch.nn.Hardsigmoid has a 1/6 of float32
    "softsign": torch.nn.functional.softsign,
    "linear": torch.nn.Identity(),
}


def _activation(name: Any) -> Any:
    return ACTIVATIONS[name] if isinstance(name, str) else lambda v: (name[1] * v + name[2]).clamp(0, 1)


def _rnn(own: str) -> Any:
    def step(x: torch.Tensor, seen: torch.Tensor, state: State, w: Parameters, options: Options) -> State:
        return (_activation(options.nonlinearity or own)(_product(w, "ih", x) + _product(w, "hh", seen)),)

    return step


def _lstm(x: torch.Tensor, seen: torch.Tensor, state: State, w: Parameters, options: Options) -> State:
    gate, candidate = _activation(options.recurrent_activation), _activation(options.activation)
    i, f, g, o = (_product(w, "ih", x) + _product(w, "hh", seen)).chunk(4, dim=1)
    c = state[1]
    if "weight_peephole" in w:
        peephole = w["weight_peephole"].view(3, -1)
        i, f = i + peephole[0] * c, f + peephole[1] * c
    c = (gate(f) * c + gate(i) * candidate(g)).clamp(-options.cell_clip, options.cell_clip)
    if "weight_peephole" in w:
        o = o + peephole[2] * c
    inner = c
    if "weight_norm_c" in w:
        inner = torch.nn.functional.layer_norm(c, c.shape[1:], w["weight_norm_c"], w["bias_norm_c"])
    h = gate(o) * _activation(options.output_activation or options.activation)(inner)
    return (torch.nn.functional.linear(h, w["weight_hr"]) if "weight_hr" in w else h), c


def _gru(x: torch.Tensor, seen: torch.Tensor, state: State, w: Parameters, options: Options) -> State:
    from_x, from_h = _product(w, "ih", x).chunk(3, dim=1), _product(w, "hh", seen).chunk(3, dim=1)
    gate, candidate = _activation(options.recurrent_activation), _activation(options.activation)
    r, z = gate(from_x[0] + from_h[0]), gate(from_x[1] + from_h[1])
    n = candidate(from_x[2] + r * from_h[2])
    return ((1 - z) * n + z * state[0],)


def _gru_reset_before(x: torch.Tensor, seen: torch.Tensor, state: State, w: Parameters, options: Options) -> State:
    linear, hidden = torch.nn.functional.linear, seen.shape[1]
    from_x, w_hh, b_hh = _product(w, "ih", x).chunk(3, dim=1), w["weight_hh"], w.get("bias_hh")
    b_gates, b_new = (None, None) if b_hh is None else (b_hh[: 2 * hidden], b_hh[2 * hidden :])
    gate, candidate = _activation(options.recurrent_activation), _activation(options.activation)
    r, z = gate(torch.cat(from_x[:2], dim=1) + linear(seen, w_hh[: 2 * hidden], b_gates)).chunk(2, dim=1)
    n = candidate(from_x[2] + linear(r * seen, w_hh[2 * hidden :], b_new))
    return ((1 - z) * n + z * state[0],)


def _candidate(n: torch.Tensor, positive: bool) -> torch.Tensor:
    return torch.where(n >= 0, n + 0.5, torch.sigmoid(n)) if positive else n


def _min_gru(positive: bool) -> Any:
    def step(x: torch.Tensor, seen: torch.Tensor, state: State, w: Parameters, options: Options) -> State:
        z, n = _product(w, "ih", x).chunk(2, dim=1)
        return ((1 - torch.sigmoid(z)) * state[0] + torch.sigmoid(z) * _candidate(n, positive),)

    return step


def _min_lstm(positive: bool) -> Any:
    def step(x: torch.Tensor, seen: torch.Tensor, state: State, w: Parameters, options: Options) -> State:
        f, i, n = _product(w, "ih", x).chunk(3, dim=1)
        f, i = torch.sigmoid(f), torch.sigmoid(i)
        return (f / (f + i) * state[0] + i / (f + i) * _candidate(n, positive),)

    return step


STEPS = {
    "rnn_tanh": _rnn("tanh"),
    "rnn_relu": _rnn("relu"),
    "rnn_sigmoid": _rnn("sigmoid"),
    "lstm": _lstm,
    "gru": _gru,
    "gru_reset_before": _gru_reset_before,
    "min_gru": _min_gru(False),
    "min_gru_positive": _min_gru(True),
    "min_lstm": _min_lstm(False),
    "min_lstm_positive": _min_lstm(True),
}


def run_loop(problem: Problem, dtype: str, training: bool = False) -> Outcome:
    """Forward and all gradients by autograd over a loop of steps, all rows together, masked past their lengths."""
    case, options = problem.case, problem.case.options
    params = {name: torch.tensor(value.astype(dtype), requires_grad=True) for name, value in problem.params.items()}
    valid = torch.from_numpy(problem.valid())
    reset = torch.zeros_like(valid) if problem.reset is None else torch.from_numpy(problem.reset) & valid
    seed, rows, steps = case.seed if training else None, np.arange(case.rows), case.steps
    y, *state = leaves = _leaves(problem, dtype)

    def mask(draw_mask: Any, stream: int, row: Array, step: Any, units: int, p: float) -> torch.Tensor:
        return torch.from_numpy(np.asarray(draw_mask(seed, stream, row, step, units, p), dtype))

    final: list[State] = []
    for layer in range(case.num_layers):
        outputs = []
        if layer:
            y = y * mask(masks.dropout, layer - 1, rows[:, None], np.arange(steps), y.shape[2], options.dropout)
        x_stream = masks.INPUT << 20 | layer * case.directions
        y = y * mask(masks.dropout, x_stream, rows[:, None], 0, y.shape[2], options.input_dropout)
        for suffix in [f"_l{layer}", f"_l{layer}_reverse"][: case.directions]:
            w = {name.removesuffix(suffix): value for name, value in params.items() if name.endswith(suffix)}
            slot, s = len(final), tuple(part[len(final)] for part in state)
            h_mask = mask(masks.dropout, masks.RECURRENT << 20 | slot, rows, 0, case.units, options.recurrent_dropout)
            zones = ((masks.ZONEOUT, options.zoneout), (masks.ZONEOUT_CELL, options.zoneout_cell))
            shares = [
                mask(masks.zoneout, kind << 20 | slot, rows[:, None], np.arange(steps), part.shape[1], p)
                for part, (kind, p) in zip(s, zones, strict=False)
            ]
            sequence: list[torch.Tensor] = [h_mask] * steps
            reverse = suffix.endswith("_reverse")
            for t in reversed(range(steps)) if reverse else range(steps):
                boundary = t + reverse
                if boundary < steps:
                    s = tuple(torch.where(reset[:, boundary, None], 0.0, part) for part in s)
                new = STEPS[case.variant.cell](y[:, t], s[0] * h_mask, s, w, options)
                new = tuple(a + z[:, t] * (b - a) for a, b, z in zip(new, s, shares, strict=True))
                s = tuple(torch.where(valid[:, t, None], a, b) for a, b in zip(new, s, strict=True))
                sequence[t] = torch.where(valid[:, t, None], s[0], 0.0)
            final.append(s)
            outputs.append(torch.stack(sequence, dim=1))
        y = torch.cat(outputs, dim=2)
    parts = tuple(torch.stack(part) for part in zip(*final, strict=True))
    return _finish(problem, dtype, y, parts, leaves, params)


def run(problem: Problem, dtype: str, training: bool = False) -> Outcome:
    if problem.case.cell in MODULES and problem.reset is None:
        return run_module(problem, dtype)
    return run_loop(problem, dtype, training)


@cache
def solved(case: Case, dtype: str, training: bool = False) -> Outcome:
    """The peer's results of a case, cached for all tests."""
    return run(draw(case), dtype, training)


def _leaves(problem: Problem, dtype: str) -> list[torch.Tensor]:
    state = problem.state or tuple(np.zeros_like(part) for part in problem.dstate)
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
