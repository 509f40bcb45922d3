"""Test cases for the recurrent layers: a cell, sizes, lengths and resets, and numbers drawn for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import numpy as np

import reference
from array_types import Array
from cell_variants import CELLS, NORMALISED, VARIANTS, Variant

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
    """A test case: the cell and options of a variant, sizes, lengths, resets; `seed` generates the numbers and
    masks."""

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
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def slots(self) -> int:
        return self.num_layers * self.directions

    @property
    def variant(self) -> Variant:
        return VARIANTS[self.cell]

    @property
    def spec(self) -> reference.Cell:
        return reference.CELLS[self.variant.cell]

    @property
    def keywords(self) -> dict[str, Any]:
        """The layer's options."""
        keywords = dict(self.variant.keywords)
        if "proj_size" in keywords:
            keywords["proj_size"] = min(keywords["proj_size"], self.hidden_size - 1)
        return keywords

    @property
    def options(self) -> reference.Options:
        """The options without parameters."""
        names = {f.name for f in fields(reference.Options)}
        return reference.Options(**{name: value for name, value in self.keywords.items() if name in names})

    @property
    def units(self) -> int:
        """The size of h."""
        return self.keywords.get("proj_size") or self.hidden_size

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The size of h and, if there is one, of c."""
        return (self.units, self.hidden_size)[: self.spec.parts]

    def state_shapes(self) -> list[tuple[int, int, int]]:
        return [(self.slots, self.rows, size) for size in self.state_sizes]

    def parameter_shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """The parameters' shapes of a layer and direction, in the layer's order."""
        hidden, gates, units, on = self.hidden_size, self.spec.gates * self.hidden_size, self.units, self.keywords
        inputs = self.directions * units if layer else self.input_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, inputs)}
        if self.spec.gates_see_state:
            shapes |= {"weight_hh": (gates, units)}
        if self.bias:
            shapes |= {name.replace("weight", "bias"): (gates,) for name in shapes}
        if on.get("proj_size"):
            shapes |= {"weight_hr": (units, hidden)}
        if on.get("peepholes"):
            shapes |= {"weight_peephole": (3 * hidden,)}
        if on.get("layer_norm"):
            shapes |= {"weight_norm_ih": (gates,), "weight_norm_hh": (gates,)}
            if self.spec.parts == 2:
                shapes |= {"weight_norm_c": (hidden,), "bias_norm_c": (hidden,)}
        return shapes

    def __str__(self) -> str:
        flags = [name for name in ("bidirectional", "ragged", "resets") if getattr(self, name)]
        size = f"{self.input_size}to{self.hidden_size}x{self.num_layers}-{self.rows}x{self.steps}"
        return "-".join([self.cell, size, *flags])


SCANS = [cell for cell in CELLS if not Case(cell).spec.gates_see_state]  # linear in the candidate: unbounded


@dataclass
class Problem:
    """Numbers that float32 represents exactly, as float64. Padding in x and dy is NaN, as it must not be read."""

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


def draw(case: Case) -> Problem:
    rng = np.random.default_rng(case.seed)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32).astype(np.float64)

    scale = np.float32(1.0 / np.sqrt(case.hidden_size))
    params = {}
    for layer in range(case.num_layers):
        for suffix in [f"_l{layer}", f"_l{layer}_reverse"][: case.directions]:
            for name, shape in case.parameter_shapes(layer).items():
                values = rng.uniform(-1, 1, shape).astype(np.float32)
                gain = name.startswith("weight_norm")  # some of 1/4 to 3/4, so that gates do not all saturate
                params[name + suffix] = (values / 4 + 0.5 if gain else values * scale).astype(np.float64)
    problem = Problem(
        case,
        params,
        x=normal(case.rows, case.steps, case.input_size),
        dy=normal(case.rows, case.steps, case.directions * case.units),
        lengths=rng.integers(0, case.steps + 1, case.rows) if case.ragged else None,
        reset=rng.random((case.rows, case.steps)) < 0.3 if case.resets else None,
        state=tuple(normal(*shape) for shape in case.state_shapes()) if case.state else None,
        dstate=tuple(normal(*shape) for shape in case.state_shapes()),
    )
    if problem.lengths is not None:
        problem.lengths[0] = case.steps  # the longest row fills the array, as it does in real batches
        if case.rows > 1:
            problem.lengths[-1] = 0
    problem.x[~problem.valid()] = np.nan
    problem.dy[~problem.valid()] = np.nan
    return problem


def grid() -> list[Case]:
    """Every plain cell x layers x direction x lengths x resets, each with all sizes; a selection for options."""
    cases = []
    for c, cell in enumerate(reference.CELLS):
        options = product((1, 2, 3), (False, True), (False, True), (False, True))
        for k, (layers, bidirectional, ragged, resets) in enumerate(options):
            size = SIZES[(c + k) % len(SIZES)]
            cases.append(Case(cell, *size, layers, bidirectional, ragged, resets, seed=100 * c + k))
    return cases + option_grid()


def option_grid() -> list[Case]:
    """Every variant with options: from one plain layer to three in both directions, with lengths and resets.

    Not of a single number, of which nobody's error is an average.
    """
    cases = []
    for c, cell in enumerate(name for name, variant in VARIANTS.items() if variant.keywords):
        for k, layers in enumerate((1, 2, 1, 3)):
            size = SIZES[1 + (3 * c + k) % (len(SIZES) - 1)]
            cases.append(Case(cell, *size, layers, k % 2 == 1, k >= 1, k >= 2, seed=100 * c + k + 1))
    return cases


def steady(cases: Iterable[Case]) -> list[Case]:
    """Without layer norm, which amplifies rounding errors of nearly equal values, ours and the peer's, so that which of
    the two is closer in one case is chance. test_options.py compares means over many cases."""
    return [case for case in cases if case.cell not in NORMALISED]


def take(problem: Problem, rows: Any) -> Problem:
    """The same case for these rows, in this order."""
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
    """The same case with `steps` more steps of padding."""
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
