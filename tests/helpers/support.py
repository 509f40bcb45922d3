"""Test cases for the recurrent layers: generated once, computed by recurra, by the specification and by PyTorch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

import recurra as rc
import reference
from recurra import _core

Array = npt.NDArray[Any]


@contextmanager
def one_thread() -> Iterator[None]:
    """Calls in the block use one thread, whatever the test's setting: thousands of small calls would wait for
    others."""
    before = rc.get_num_threads()
    rc.set_num_threads(1)
    try:
        yield
    finally:
        rc.set_num_threads(before)


def central_difference(
    f: Callable[[], float], array: Array, entries: npt.NDArray[np.intp], step: float = 1e-5
) -> Array:
    """`reference.central_difference` of an f that calls recurra."""
    with one_thread():
        return reference.central_difference(f, array, entries, step)


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
class Variant:
    """A cell of the specification, with the options of its layer."""

    cell: str
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def random(self) -> bool:
        """Whether training differs from inference."""
        return any("dropout" in name or "zoneout" in name for name in self.keywords)


REGULARISED = {"input_dropout": 0.2, "recurrent_dropout": 0.3, "zoneout": 0.15}
EXTENDED = {"peepholes": True, "cell_clip": 0.4, "zoneout_cell": 0.35}
HARD = ("hard_sigmoid", 0.2, 0.5)
#: Every cell without options, with each option alone and with several. Projections are limited to the hidden size.
VARIANTS = {cell: Variant(cell) for cell in reference.CELLS} | {
    "rnn_tanh+layer-norm": Variant("rnn_tanh", {"layer_norm": True}),
    "rnn_tanh+input-dropout": Variant("rnn_tanh", {"input_dropout": 0.3}),
    "rnn_tanh+recurrent-dropout": Variant("rnn_tanh", {"recurrent_dropout": 0.3}),
    "rnn_tanh+zoneout": Variant("rnn_tanh", {"zoneout": 0.25}),
    "rnn_tanh+all": Variant("rnn_tanh", {"layer_norm": True, **REGULARISED}),
    "rnn_relu+all": Variant("rnn_relu", {"layer_norm": True, **REGULARISED}),
    "rnn_sigmoid+all": Variant("rnn_sigmoid", {"layer_norm": True, **REGULARISED}),
    "lstm+layer-norm": Variant("lstm", {"layer_norm": True}),
    "lstm+input-dropout": Variant("lstm", {"input_dropout": 0.3}),
    "lstm+recurrent-dropout": Variant("lstm", {"recurrent_dropout": 0.3}),
    "lstm+zoneout": Variant("lstm", {"zoneout": 0.25}),
    "lstm+zoneout-of-c": Variant("lstm", {"zoneout_cell": 0.25}),
    "lstm+peepholes": Variant("lstm", {"peepholes": True}),
    "lstm+clip": Variant("lstm", {"cell_clip": 0.3}),
    "lstm+projection": Variant("lstm", {"proj_size": 16}),
    "lstm+projection-to-1": Variant("lstm", {"proj_size": 1}),
    "lstm+projection-to-3": Variant("lstm", {"proj_size": 3}),
    "lstm+projection-to-20": Variant("lstm", {"proj_size": 20}),
    "lstm+regularised": Variant("lstm", {"layer_norm": True, "zoneout_cell": 0.35, "dropout": 0.2, **REGULARISED}),
    "lstm+extended": Variant("lstm", {"proj_size": 20, **EXTENDED}),
    "lstm+projected-layer-norm": Variant("lstm", {"proj_size": 20, "layer_norm": True}),
    "lstm+projected-zoneout": Variant("lstm", {"proj_size": 3, "zoneout": 0.25}),
    "lstm+projected-dropouts": Variant("lstm", {"proj_size": 20, "input_dropout": 0.3, "recurrent_dropout": 0.3}),
    "lstm+all": Variant("lstm", {"proj_size": 20, "layer_norm": True, **EXTENDED, **REGULARISED}),
    "gru+layer-norm": Variant("gru", {"layer_norm": True}),
    "gru+input-dropout": Variant("gru", {"input_dropout": 0.3}),
    "gru+recurrent-dropout": Variant("gru", {"recurrent_dropout": 0.3}),
    "gru+zoneout": Variant("gru", {"zoneout": 0.25}),
    "gru+all": Variant("gru", {"layer_norm": True, "dropout": 0.2, **REGULARISED}),
    "gru_reset_before+input-dropout": Variant("gru_reset_before", {"input_dropout": 0.3}),
    "gru_reset_before+recurrent-dropout": Variant("gru_reset_before", {"recurrent_dropout": 0.3}),
    "gru_reset_before+zoneout": Variant("gru_reset_before", {"zoneout": 0.25}),
    "gru_reset_before+all": Variant("gru_reset_before", REGULARISED),
    "rnn_tanh+hard-sigmoid": Variant("rnn_tanh", {"nonlinearity": "hard_sigmoid"}),
    "rnn_tanh+softsign": Variant("rnn_tanh", {"nonlinearity": "softsign", "zoneout": 0.25}),
    "lstm+hard-sigmoid": Variant("lstm", {"recurrent_activation": "hard_sigmoid"}),
    "lstm+hard-sigmoid-of-keras-2": Variant("lstm", {"recurrent_activation": HARD}),
    "lstm+relu": Variant("lstm", {"activation": "relu", "cell_clip": 3.0}),
    "lstm+activations": Variant(
        "lstm",
        {"recurrent_activation": HARD, "activation": "softsign", "output_activation": "sigmoid", "peepholes": True},
    ),
    "lstm+activations-layer-norm": Variant(
        "lstm", {"activation": "softsign", "recurrent_activation": HARD, "layer_norm": True, "proj_size": 3}
    ),
    "gru+hard-sigmoid": Variant("gru", {"recurrent_activation": "hard_sigmoid"}),
    "gru+activations": Variant("gru", {"recurrent_activation": HARD, "activation": "relu", "layer_norm": True}),
    "gru_reset_before+hard-sigmoid": Variant("gru_reset_before", {"recurrent_activation": HARD}),
    "gru_reset_before+activations": Variant(
        "gru_reset_before", {"recurrent_activation": "softsign", "activation": "linear", "zoneout": 0.25}
    ),
}
#: The variants that every test of cells uses: without options, and with as many as one cell can have.
CELLS = [
    *reference.CELLS,
    *(
        "rnn_tanh+all",
        "lstm+projection",
        "lstm+extended",
        "lstm+all",
        "gru+all",
        "gru_reset_before+all",
        "lstm+activations",
    ),
]
NORMALISED = [name for name, variant in VARIANTS.items() if variant.keywords.get("layer_norm")]


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


def weights_of(model: Any) -> Array:
    """All parameters, flat."""
    return np.concatenate([array.ravel() for array in model.params.values()])


def layer_with_whole_gradients() -> tuple[Any, Array, Array]:
    """A layer, x and dy, whose gradients are small integers: they add up exactly in any order."""
    layer = rc.RNN(4, 8, nonlinearity="relu", dtype="float64")
    with layer.edit() as params:
        for name in params:
            params[name][...] = 0.0
        params["bias_ih_l0"][...] = 1.0
    return layer, np.ones((16, 1, 4)), np.ones((16, 1, 8))


def polls(call: Callable[[], object]) -> int:
    """How often a call polls its stop function: a measure of its work, and of how soon it would stop."""
    most = 1 << 40
    _core.interrupt_at(most)
    try:
        call()
    finally:
        left = _core.interrupt_at(0)
    return most - left


#: For the code of `run_python`: in_a_child(work) forks and runs it in the child.
IN_A_CHILD = """
import os, sys, time

def in_a_child(work):
    # Runs it in a child, which says by its exit status how it went; one that hangs is killed after 20 s.
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + 20
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"child: status {status}"
            return
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            sys.exit("a child hangs")
        time.sleep(0.002)
"""


def run_python(code: str, *, timeout: float = 120.0, **environment: str) -> str:
    """Run code in a fresh interpreter that can import these tests; return its output, fail if it fails."""
    tests = str(Path(__file__).parents[1])
    paths = [*(path for path in sys.path if path.startswith(tests)), os.environ.get("PYTHONPATH", "")]
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
    file = Path(__file__).parents[2] / path
    spec = importlib.util.spec_from_file_location(f"script_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


SCANS = [cell for cell in CELLS if not Case(cell).spec.gates_see_state]  # linear in the candidate: unbounded
DTYPES = ["float32", "float64"]


def assert_as_close_as(peer: Array, actual: Array, exact: Array, what: str) -> None:
    """float32: the error against float64 is at most twice the peer's own, as a root mean square over the array.

    The largest error of a few thousand is a matter of luck, the peer's as well as ours: it may be three times the
    peer's, which still finds a single element gone wrong. The floors, one and two units in the last place of the
    array's largest value (or of 1), are for arrays so small that the peer is exact by luck: rounding the result costs
    as much.
    """
    scale = max(1.0, np.abs(exact).max(initial=0.0))
    mine, its = (np.abs(array - exact).ravel() for array in (actual, peer))
    error, allowed = (float(np.sqrt(np.square(e).sum() / max(e.size, 1))) for e in (mine, its))
    assert error <= 2.0 * allowed + 2.0**-23 * scale, f"{what}: mean error {error:.3g}, the peer's {allowed:.3g}"
    error, allowed = mine.max(initial=0.0), its.max(initial=0.0)
    assert error <= 3.0 * allowed + 2.0**-22 * scale, f"{what}: largest error {error:.3g}, the peer's {allowed:.3g}"
