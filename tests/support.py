"""Problems for the recurrent layers: drawn once, solved by recurra, by the specification and by PyTorch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

import recurra as rc
import reference

Array = npt.NDArray[Any]

# Odd sizes on purpose: below, at and above every vector and panel width. (input, hidden, rows, steps)
SIZES = [
    (1, 1, 1, 1),
    (3, 5, 2, 7),
    (20, 16, 3, 2),
    (1, 17, 13, 7),
    (3, 24, 7, 33),
    (20, 45, 2, 7),
    (3, 67, 3, 33),
    (1, 5, 13, 2),
    (20, 33, 1, 33),
]


@dataclass(frozen=True)
class Case:
    """What to compute; `seed` draws the numbers."""

    cell: str
    input_size: int = 3
    hidden_size: int = 5
    rows: int = 2
    steps: int = 7
    num_layers: int = 1
    bidirectional: bool = False
    ragged: bool = False
    resets: bool = False
    bias: bool = True
    state: bool = True
    seed: int = 0

    @property
    def slots(self) -> int:
        return self.num_layers * (2 if self.bidirectional else 1)

    def __str__(self) -> str:
        flags = [name for name in ("bidirectional", "ragged", "resets") if getattr(self, name)]
        size = f"{self.input_size}to{self.hidden_size}x{self.num_layers}-{self.rows}x{self.steps}"
        return "-".join([self.cell, size, *flags])


@dataclass
class Problem:
    """Numbers that float32 holds exactly, kept in float64. Padding (lengths) is NaN in x and dy: nobody may read it."""

    case: Case
    params: dict[str, Array]
    x: Array
    dy: Array
    lengths: Array | None
    reset: Array | None
    state: tuple[Array, ...] | None
    dstate: tuple[Array, ...]

    def valid(self) -> Array:
        """(N, T) of bool: the steps within the lengths."""
        steps = np.arange(self.case.steps)
        lengths = np.full(self.case.rows, self.case.steps) if self.lengths is None else self.lengths
        return steps[None, :] < lengths[:, None]


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


def grid() -> list[Case]:
    """Every cell x layers x direction x lengths x resets, each cell going through all sizes."""
    cases = []
    for c, cell in enumerate(reference.CELLS):
        options = product((1, 2, 3), (False, True), (False, True), (False, True))
        for k, (layers, bidirectional, ragged, resets) in enumerate(options):
            size = SIZES[(c + k) % len(SIZES)]
            cases.append(Case(cell, *size, layers, bidirectional, ragged, resets, seed=100 * c + k))
    return cases


def draw(case: Case) -> Problem:
    rng = np.random.default_rng(case.seed)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32).astype(np.float64)

    spec = reference.CELLS[case.cell]
    directions, hidden = case.slots // case.num_layers, case.hidden_size
    scale = np.float32(1.0 / np.sqrt(hidden))
    params = {}
    for layer in range(case.num_layers):
        width = case.input_size if layer == 0 else directions * hidden
        for suffix in [f"_l{layer}", f"_l{layer}_reverse"][:directions]:
            shapes: list[tuple[str, tuple[int, ...]]] = [("weight_ih", (spec.gates * hidden, width))]
            if spec.gates_see_state:
                shapes.append(("weight_hh", (spec.gates * hidden, hidden)))
            if case.bias:
                shapes += [(name.replace("weight", "bias"), shape[:1]) for name, shape in shapes]
            for name, shape in shapes:
                params[name + suffix] = (rng.uniform(-1, 1, shape).astype(np.float32) * scale).astype(np.float64)
    parts = range(spec.parts)
    problem = Problem(
        case,
        params,
        x=normal(case.rows, case.steps, case.input_size),
        dy=normal(case.rows, case.steps, directions * hidden),
        lengths=rng.integers(0, case.steps + 1, case.rows) if case.ragged else None,
        reset=rng.random((case.rows, case.steps)) < 0.3 if case.resets else None,
        state=tuple(normal(case.slots, case.rows, hidden) for _ in parts) if case.state else None,
        dstate=tuple(normal(case.slots, case.rows, hidden) for _ in parts),
    )
    if problem.lengths is not None:
        problem.lengths[0] = case.steps  # the longest row fills the array, as it does in real batches
        if case.rows > 1:
            problem.lengths[-1] = 0
    problem.x[~problem.valid()] = np.nan
    problem.dy[~problem.valid()] = np.nan
    return problem


def make_layer(case: Case, dtype: str = "float32", **options: Any) -> Any:
    """The recurra layer of a case, with PyTorch's name for its cell."""
    options = {
        "num_layers": case.num_layers,
        "bidirectional": case.bidirectional,
        "bias": case.bias,
        "dtype": dtype,
        "seed": case.seed,
        **options,
    }
    sizes = (case.input_size, case.hidden_size)
    if case.cell.startswith("min_"):
        minimal = rc.MinGRU if case.cell.startswith("min_gru") else rc.MinLSTM
        return minimal(*sizes, positive=case.cell.endswith("_positive"), **options)
    if case.cell == "lstm":
        return rc.LSTM(*sizes, **options)
    if case.cell.startswith("gru"):
        return rc.GRU(*sizes, reset_after=case.cell == "gru", **options)
    return rc.RNN(*sizes, nonlinearity=case.cell.removeprefix("rnn_"), **options)


def load(layer: Any, params: Mapping[str, Array], dtype: str) -> Any:
    for name, value in params.items():
        layer.params[name] = value.astype(dtype)
    return layer


def solver(problem: Problem, dtype: str) -> Any:
    return load(make_layer(problem.case, dtype), problem.params, dtype)


def pack(parts: tuple[Array, ...] | None, dtype: str) -> Any:
    """State parts -> what the layers take: None, h or (h, c)."""
    if parts is None:
        return None
    arrays = tuple(part.astype(dtype) for part in parts)
    return arrays if len(arrays) > 1 else arrays[0]


def unpack(state: Any) -> tuple[Array, ...]:
    """What the layers return -> state parts."""
    return tuple(state) if isinstance(state, tuple | list) else (state,)


def inputs(problem: Problem, dtype: str) -> dict[str, Any]:
    """The keyword arguments of a call."""
    return {"state": pack(problem.state, dtype), "lengths": problem.lengths, "reset": problem.reset}


def solve(problem: Problem, dtype: str, layer: Any = None) -> Outcome:
    """Forward and backward by recurra."""
    layer = solver(problem, dtype) if layer is None else layer
    layer.zero_grad()
    tape = layer.record(problem.x.astype(dtype), **inputs(problem, dtype))
    y, state = tape.y, unpack(tape.state)
    dx, dstate = tape.backward(problem.dy.astype(dtype), pack(problem.dstate, dtype))
    return Outcome(y, state, dx, unpack(dstate), {name: layer.grads[name].copy() for name in problem.params})


def forward(problem: Problem, dtype: str, layer: Any = None) -> tuple[Array, tuple[Array, ...]]:
    """Inference by recurra."""
    layer = solver(problem, dtype) if layer is None else layer
    y, state = layer(problem.x.astype(dtype), **inputs(problem, dtype))
    return y, unpack(state)


def specified(problem: Problem) -> tuple[Array, tuple[Array, ...]]:
    """Inference by the specification."""
    case = problem.case
    return reference.run(
        case.cell,
        problem.params,
        problem.x,
        num_layers=case.num_layers,
        bidirectional=case.bidirectional,
        lengths=problem.lengths,
        reset=problem.reset,
        state=problem.state,
    )


def take(problem: Problem, rows: Any) -> Problem:
    """The same problem for some of its rows, in that order."""
    index = np.asarray(rows)

    def parts(state: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(np.ascontiguousarray(part[:, index]) for part in state)

    return Problem(
        replace(problem.case, rows=len(index)),
        problem.params,
        problem.x[index],
        problem.dy[index],
        None if problem.lengths is None else problem.lengths[index],
        None if problem.reset is None else problem.reset[index],
        None if problem.state is None else parts(problem.state),
        parts(problem.dstate),
    )


def pad(problem: Problem, steps: int, value: float = np.nan) -> Problem:
    """The same problem with `steps` more steps of padding."""
    case = problem.case
    extra = np.full((case.rows, steps), True)

    def longer(array: Array) -> Array:
        return np.concatenate([array, np.full((case.rows, steps, array.shape[2]), value)], axis=1)

    lengths = np.full(case.rows, case.steps) if problem.lengths is None else problem.lengths
    return Problem(
        replace(case, steps=case.steps + steps, ragged=True),
        problem.params,
        longer(problem.x),
        longer(problem.dy),
        lengths,
        None if problem.reset is None else np.concatenate([problem.reset, extra], axis=1),
        problem.state,
        problem.dstate,
    )


def assert_same_bits(actual: Any, expected: Any, what: str = "") -> None:
    """Equal bit for bit; a NaN equals the same NaN, 0.0 does not equal -0.0."""
    actual, expected = np.ascontiguousarray(actual), np.ascontiguousarray(expected)
    assert actual.dtype == expected.dtype, what
    assert actual.shape == expected.shape, what
    differ = actual.view(np.uint8) != expected.view(np.uint8)
    if differ.any():
        largest = np.nanmax(np.abs(actual.astype(np.float64) - expected.astype(np.float64)))
        raise AssertionError(f"{what}: {differ.sum()} of {differ.size} bytes differ, by up to {largest}")


def assert_same_outcome(actual: Outcome, expected: Outcome) -> None:
    for (name, one), (_, other) in zip(actual.arrays(), expected.arrays(), strict=True):
        assert_same_bits(one, other, name)


def run_python(code: str, *, timeout: float = 120.0, **environment: str) -> str:
    """Runs code in a fresh interpreter that can import these tests; returns its output, fails with it."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"no end after {timeout} s\n{error.stdout!r}\n{error.stderr!r}") from None
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def load_script(path: str) -> ModuleType:
    """A script of the repository as a module; its folder is not a package."""
    file = Path(__file__).parents[1] / path
    spec = importlib.util.spec_from_file_location(f"script_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
