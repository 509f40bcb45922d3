"""A case of a recurrent layer as recurra computes it, and as the specification does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import recurra as rc
import reference
from agreement import assert_same_bits
from array_types import Array
from cell_cases import Case, Problem


@dataclass
class Outcome:
    y: Array
    state: tuple[Array, ...]
    dx: Array
    dstate: tuple[Array, ...]
    grads: dict[str, Array]

    def arrays(self) -> Iterator[tuple[str, Array]]:
        yield "y", self.y
        for part, array in zip("hc", self.state, strict=False):
            yield f"{part}_n", array
        yield from self.gradients()

    def gradients(self) -> Iterator[tuple[str, Array]]:
        yield "dx", self.dx
        for part, array in zip("hc", self.dstate, strict=False):
            yield f"d{part}_0", array
        yield from self.grads.items()


def assert_same_outcome(actual: Outcome, expected: Outcome) -> None:
    for (name, one), (_, other) in zip(actual.arrays(), expected.arrays(), strict=True):
        assert_same_bits(one, other, name)


def make_layer(case: Case, dtype: str = "float32", **options: Any) -> Any:
    """The recurra layer of a case, with PyTorch's name for its cell."""
    options = {
        **case.keywords,
        "num_layers": case.num_layers,
        "bidirectional": case.bidirectional,
        "bias": case.bias,
        "dtype": dtype,
        "seed": case.seed,
        **options,
    }
    if options["num_layers"] == 1:
        options.pop("dropout", None)  # it lies between layers
    sizes = (case.input_size, case.hidden_size)
    cell = case.variant.cell
    if cell.startswith("min_"):
        minimal = rc.MinGRU if cell.startswith("min_gru") else rc.MinLSTM
        return minimal(*sizes, positive=cell.endswith("_positive"), **options)
    if cell == "lstm":
        return rc.LSTM(*sizes, **options)
    if cell.startswith("gru"):
        return rc.GRU(*sizes, reset_after=cell == "gru", **options)
    return rc.RNN(*sizes, **{"nonlinearity": cell.removeprefix("rnn_"), **options})


def load(layer: Any, params: Mapping[str, Array], dtype: str) -> Any:
    for name, value in params.items():
        layer.params[name] = value.astype(dtype)
    return layer


def solver(problem: Problem, dtype: str) -> Any:
    return load(make_layer(problem.case, dtype), problem.params, dtype)


def pack(parts: tuple[Array, ...] | None, dtype: str) -> Any:
    """State parts -> a layer's state: None, h or (h, c)."""
    if parts is None:
        return None
    arrays = tuple(part.astype(dtype) for part in parts)
    return arrays if len(arrays) > 1 else arrays[0]


def unpack(state: Any) -> tuple[Array, ...]:
    """A layer's state -> state parts."""
    return tuple(state) if isinstance(state, tuple | list) else (state,)


def inputs(problem: Problem, dtype: str) -> dict[str, Any]:
    """The keyword arguments of a call."""
    return {"state": pack(problem.state, dtype), "lengths": problem.lengths, "reset": problem.reset}


def solve(problem: Problem, dtype: str, layer: Any = None, training: bool = False) -> Outcome:
    """Forward and backward by recurra; training differs from inference only for a variant with masks."""
    layer = solver(problem, dtype) if layer is None else layer
    layer.zero_grad()
    x, seed = problem.x.astype(dtype), problem.case.seed
    tape = layer.record(x, **inputs(problem, dtype), training=training, seed=seed)
    y, state = tape.y, unpack(tape.state)
    dx, dstate = tape.backward(problem.dy.astype(dtype), pack(problem.dstate, dtype))
    return Outcome(y, state, dx, unpack(dstate), {name: layer.grads[name].copy() for name in problem.params})


def forward(problem: Problem, dtype: str, layer: Any = None) -> tuple[Array, tuple[Array, ...]]:
    """Inference by recurra."""
    layer = solver(problem, dtype) if layer is None else layer
    y, state = layer(problem.x.astype(dtype), **inputs(problem, dtype))
    return y, unpack(state)


def specified(problem: Problem, training: bool = False) -> tuple[Array, tuple[Array, ...]]:
    """The outputs by the specification."""
    case = problem.case
    return reference.run(
        case.variant.cell,
        problem.params,
        problem.x,
        num_layers=case.num_layers,
        bidirectional=case.bidirectional,
        lengths=problem.lengths,
        reset=problem.reset,
        state=problem.state,
        options=case.options,
        seed=case.seed if training else None,
    )
